/** The request that SQL runs for, as the adaptor sees it. It travels with the settings, so that no copy of them loses it. */

import { CancellationSource, type CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import type { EventFeed } from "./event-feed.ts";
import { type SignToken, tokenSigner } from "./token-signer.ts";

/**
 * Enumerable on the settings object, so that `{ ...pgSettings, more }` in plugins keeps it. In the global symbol registry,
 * because a preset may load `rowhouse/plugin` from another copy of this package than the running one.
 */
export const requestScope: unique symbol = Symbol.for("rowhouse.request");

/** The settings of one request's transactions. */
export interface RequestSettings {
  [name: string]: string | undefined;
  [requestScope]?: RequestScope;
}

export class RequestScope {
  readonly slot: number;
  readonly binding: TenantBinding;
  readonly basePath: string;
  readonly settings: RequestSettings;
  /** The headers that the cell receives; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly #identifying: readonly string[];
  /** Variables that are long lists; whether they are allowed is known once the operation is. */
  longLists: readonly string[] | null = null;
  /** The failure that makes the whole answer an error of the host, such as an unreachable database. */
  hostFailure: Error | null = null;
  /** The events of a subscriber's request; null for every other request. */
  feed: EventFeed | null = null;
  #open = true;
  #streaming = false;
  #committing = 0;
  #committed = false;
  /** Whether this scope has marked the ledger. */
  #marked = false;
  #hasSlot = true;
  readonly #stop = new CancellationSource();
  #signal: AbortSignal | null = null;
  readonly #ledger: Int8Array;
  /** A closure, so that the scope's holders can sign for its tenant but cannot read the secret. */
  readonly #sign: SignToken;

  constructor(input: {
    slot: number;
    binding: TenantBinding;
    basePath: string;
    settings: Readonly<Record<string, string>>;
    signing: string | null;
    headers?: Readonly<Record<string, string>>;
    /** Names of the headers that are part of the caller's identity. */
    identifying?: readonly string[];
    ledger: Int8Array;
  }) {
    this.slot = input.slot;
    this.binding = input.binding;
    this.basePath = input.basePath;
    this.headers = input.headers ?? {};
    this.#identifying = input.identifying ?? [];
    this.#ledger = input.ledger;
    this.#sign = tokenSigner(input.binding.tenant, input.signing);
    this.settings = { ...input.settings, [requestScope]: this };
  }

  /**
   * The headers that are part of the caller's identity. Caches shared by requests of equal settings must also be separated by
   * these.
   */
  get identifyingHeaders(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      this.#identifying.flatMap((name) => {
        const value = this.headers[name];
        return value === undefined ? [] : [[name, value]];
      }),
    );
  }

  /** False once the request was answered; settings that a plugin kept are refused from then on. */
  get open(): boolean {
    return this.#open;
  }

  close(): void {
    this.#open = false;
  }

  /** Signs a token of the request's tenant with these claims. Throws once the request is over. */
  async sign(claims: Readonly<Record<string, unknown>>): Promise<string> {
    if (!this.#open) throw new HostError("INTERNAL", "a token was requested after the request had ended");
    return this.#sign(claims);
  }

  /** Aborts when nobody waits for the answer any more. */
  get stop(): CancellationToken {
    return this.#stop;
  }

  /** The same as a standard AbortSignal; created on demand, which most requests never need. */
  get signal(): AbortSignal {
    if (this.#signal === null) {
      const controller = new AbortController();
      this.#signal = controller.signal;
      if (this.#stop.aborted) controller.abort();
      else this.#stop.addEventListener("abort", () => controller.abort());
    }
    return this.#signal;
  }

  cancel(): void {
    this.#stop.abort();
  }

  /** Called when the slot belongs to another request: the front reassigns a stream's slot as soon as it gives the stream up. */
  releaseSlot(): void {
    this.#hasSlot = false;
  }

  /** Called when the answer has begun as a stream; from then on a failure belongs to the part that it happened in. */
  stream(): void {
    this.#streaming = true;
  }

  /**
   * Whether the host can no longer answer the request or run it again: part of the answer was sent, or a write may have been
   * committed.
   */
  get irrevocable(): boolean {
    return this.#streaming || this.mayHaveCommitted;
  }

  /**
   * Runs `commit`, which may commit writes of the request. From before its first byte is written, the ledger tells the host not
   * to repeat the request if this thread dies; the mark is removed only if nothing was committed. `mayHaveCommitted` decides whether the
   * commit may have happened despite an error.
   */
  async committing<Value>(
    commit: () => Promise<Value>,
    mayHaveCommitted: (error: unknown) => boolean,
  ): Promise<Value> {
    this.#marked = true;
    Atomics.store(this.#ledger, this.slot, 1);
    this.#committing += 1;
    try {
      const value = await commit();
      this.#committed = true;
      return value;
    } catch (error) {
      this.#committed ||= mayHaveCommitted(error);
      throw error;
    } finally {
      this.#committing -= 1;
      if (this.#committing === 0 && !this.#committed) this.#unmark();
    }
  }

  /**
   * Removes the mark, unless the slot may already belong to another request, in which case the mark may be that request's. A stale
   * mark only costs that request its retry.
   */
  #unmark(): void {
    this.#marked = false;
    if (this.#open && this.#hasSlot) Atomics.store(this.#ledger, this.slot, 0);
  }

  get mayHaveCommitted(): boolean {
    return this.#marked;
  }
}

declare global {
  namespace Grafast {
    interface RequestContext {
      rowhouse: RequestScope;
    }
  }
}
