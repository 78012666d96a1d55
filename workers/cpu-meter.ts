/** How long each tenant keeps this thread busy. */
import type { BusyTimes } from "../src/protocol/messages.ts";

/** A message to the front costs a hundredth of this. */
const longMs = 2;

/**
 * Between two turns of the event loop code runs for whoever was last entered: a request that begins, or a connection whose rows have come.
 * It is the time on the clock, not the CPU's: `process.threadCpuUsage` is a system call, and what preempts one tenant preempts all.
 */
export class CpuMeter {
  readonly #onLong: () => void;
  readonly #busyMs = new Map<string, number>();
  #isLong = false;
  #tenant: string | null = null;
  /** The tenants of interleaved requests, one entry per request; empty while a single one runs. */
  #together: string[] = [];
  #isGathering = false;
  #sinceMs = 0;
  #watching = false;

  /** `onLong` is called behind code that ran for so long that it matters who is next. */
  constructor(onLong: () => void) {
    this.#onLong = onLong;
  }

  /** From now on the thread runs for `tenant`, at most until the event loop's next turn. */
  enter(tenant: string): void {
    if (this.#isGathering) this.#together.push(tenant);
    else {
      this.#turnTo(tenant);
      if (this.#together.length > 0) this.#together = [];
    }
    this.#watch();
  }

  /** From now on the thread runs for all that enter during `begin`: their time is split evenly, by requests. */
  share(begin: () => void): void {
    this.#turnTo(null);
    this.#together = [];
    this.#isGathering = true;
    begin();
    this.#isGathering = false;
  }

  #turnTo(tenant: string | null): void {
    const nowMs = performance.now();
    this.#add(nowMs);
    this.#tenant = tenant;
    this.#sinceMs = nowMs;
  }

  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    // Behind all that the loop finds ready now. An immediate keeps it from sleeping, so no idle time is counted.
    setImmediate(() => {
      this.#watching = false;
      this.#turnTo(null);
      if (this.#together.length > 0) this.#together = [];
      if (!this.#isLong) return;
      this.#isLong = false;
      this.#onLong();
    });
  }

  /** What came together since the last time. */
  take(): BusyTimes {
    if (this.#tenant !== null || this.#together.length > 0) this.#turnTo(this.#tenant);
    if (this.#busyMs.size === 0) return nothing;
    const times: (string | number)[] = [];
    for (const [tenant, ms] of this.#busyMs) times.push(tenant, ms);
    this.#busyMs.clear();
    return times;
  }

  #add(nowMs: number): void {
    const ms = nowMs - this.#sinceMs;
    const shares = this.#together.length;
    if (shares > 0) {
      for (const tenant of this.#together) this.#charge(tenant, ms / shares);
    } else if (this.#tenant === null) return;
    else this.#charge(this.#tenant, ms);
    this.#isLong ||= ms >= longMs;
  }

  #charge(tenant: string, ms: number): void {
    this.#busyMs.set(tenant, (this.#busyMs.get(tenant) ?? 0) + ms);
  }
}

const nothing: BusyTimes = [];
