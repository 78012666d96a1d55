/** Who may ask for how many of a pool's connections. */
import { HostError } from "../src/kernel/errors.ts";
import type { StopSignal } from "../src/kernel/stop.ts";

/**
 * Where several tenants share a pool, none of them gets its last connection: slow statements of one, as many as it likes, leave the
 * others a connection. What a tenant asks for beyond its share waits for its own connections alone.
 */
export class Shares {
  readonly #size: number;
  readonly #timeoutMs: number;
  readonly #held = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();
  /** Of all tenants. */
  waiting = 0;
  #only: string | null = null;
  #several = false;

  constructor(size: number, timeoutMs: number) {
    this.#size = size;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Null where `tenant` has one more from now on, else what resolves when it has; rejects with `NO_CAPACITY` after the time, and
   * with `CANCELLED` as soon as `signal` aborts. A `give` is owed for each.
   */
  take(tenant: string, signal: StopSignal | undefined): Promise<void> | null {
    this.#only ??= tenant;
    this.#several ||= this.#only !== tenant;
    const held = this.#held.get(tenant) ?? 0;
    if (held >= this.#share) return this.#wait(tenant, signal);
    this.#held.set(tenant, held + 1);
    return null;
  }

  give(tenant: string): void {
    const held = this.#held.get(tenant) ?? 0;
    // More than its share is what it had before there were others.
    const next = held > this.#share ? undefined : this.#waiting.get(tenant)?.shift();
    if (next !== undefined) next();
    else if (held > 1) this.#held.set(tenant, held - 1);
    else this.#held.delete(tenant);
  }

  get #share(): number {
    return this.#several ? Math.max(1, this.#size - 1) : this.#size;
  }

  #wait(tenant: string, signal: StopSignal | undefined): Promise<void> {
    const queue = this.#waiting.get(tenant) ?? [];
    this.#waiting.set(tenant, queue);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const end = (): void => {
      this.waiting -= 1;
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      if (queue.length === 0) this.#waiting.delete(tenant);
    };
    const next = (): void => {
      end();
      resolve();
    };
    const leave = (reason: HostError): void => {
      const place = queue.indexOf(next);
      if (place >= 0) queue.splice(place, 1);
      end();
      reject(reason);
    };
    const cancel = (): void => leave(new HostError("CANCELLED"));
    const timer = setTimeout(() => {
      leave(
        new HostError("NO_CAPACITY", `none of the tenant's connections became free in ${this.#timeoutMs} ms`),
      );
    }, this.#timeoutMs);
    signal?.addEventListener("abort", cancel, { once: true });
    queue.push(next);
    this.waiting += 1;
    if (signal?.aborted === true) cancel();
    return promise;
  }
}
