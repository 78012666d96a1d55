/** The request that SQL runs for, as the adaptor knows it. It travels with the settings, so that no copy of them loses it. */

import { CancellationSource, type CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantBinding } from "../../src/shared/protocol/messages.ts";
import { type SignToken, tokenSigner } from "./token-signer.ts";

/**
 * Enumerable on the settings object: `{ ...pgSettings, more }`, which plugins write, keeps it. Registered, because a
 * preset may load `rowhouse/plugin` from another copy of this package than the one that runs.
 */
export const requestScope: unique symbol = Symbol.for("rowhouse.request");

/** Settings of one request's transactions. */
export interface RequestSettings {
  [name: string]: string | undefined;
  [requestScope]?: RequestScope;
}

export class RequestScope {
  readonly slot: number;
  readonly binding: TenantBinding;
  readonly basePath: string;
  readonly settings: RequestSettings;
  /** As far as a cell is told of them; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly #identifying: readonly string[];
  /** Variables of the request that are long lists: what they may hold is known when its operation is. */
  longLists: readonly string[] | null = null;
  /** The failure that makes the whole answer an error of the host, such as a database that cannot be reached. */
  hostFailure: Error | null = null;
  #open = true;
  #streaming = false;
  #committing = 0;
  #committed = false;
  /** What this one has written into the ledger. */
  #marked = false;
  #hasSlot = true;
  readonly #stop = new CancellationSource();
  #signal: AbortSignal | null = null;
  readonly #ledger: Int8Array;
  /** In a closure: what has the scope may sign for its tenant, and cannot read the secret. */
  readonly #sign: SignToken;

  constructor(input: {
    slot: number;
    binding: TenantBinding;
    basePath: string;
    settings: Readonly<Record<string, string>>;
    signing: string | null;
    headers?: Readonly<Record<string, string>>;
    /** Names of headers that are part of who asks. */
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

  /** Those of the headers that are part of who asks: what is kept for requests of equal settings tells them apart by these as well. */
  get identifyingHeaders(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      this.#identifying.flatMap((name) => {
        const value = this.headers[name];
        return value === undefined ? [] : [[name, value]];
      }),
    );
  }

  /** False once the request was answered: settings that a plugin kept are refused from then on. */
  get open(): boolean {
    return this.#open;
  }

  close(): void {
    this.#open = false;
  }

  /** A token of the request's tenant that makes these claims. */
  async sign(claims: Readonly<Record<string, unknown>>): Promise<string> {
    if (!this.#open) throw new HostError("INTERNAL", "a token was asked for by a request that is over");
    return this.#sign(claims);
  }

  /** Stops when nobody waits for the answer any more. */
  get stop(): CancellationToken {
    return this.#stop;
  }

  /** The same for whoever needs what everybody understands; made when it is asked for, which most requests never do. */
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

  /** Called when the place is another request's: the front gives that of a stream away as soon as it gives the stream up. */
  leaveSlot(): void {
    this.#hasSlot = false;
  }

  /** Called when the answer has begun as a stream: from then on a failure belongs to the part that it happened in. */
  stream(): void {
    this.#streaming = true;
  }

  /** Whether the request can no longer be run again, nor answered by the host: the client has something of it already. */
  get irrevocable(): boolean {
    return this.#streaming || this.mayHaveCommitted;
  }

  /**
   * Runs `commit`, which may make something of the request stand: from before its first byte is written, and for good
   * unless it turns out that nothing does, the ledger tells the host not to repeat the request if this thread dies.
   * `stands` judges a failure: whether what was to be committed may stand all the same.
   */
  async committing<Value>(commit: () => Promise<Value>, stands: (error: unknown) => boolean): Promise<Value> {
    this.#marked = true;
    Atomics.store(this.#ledger, this.slot, 1);
    this.#committing += 1;
    try {
      const value = await commit();
      this.#committed = true;
      return value;
    } catch (error) {
      this.#committed ||= stands(error);
      throw error;
    } finally {
      this.#committing -= 1;
      if (this.#committing === 0 && !this.#committed) this.#unmark();
    }
  }

  /** Not where the place may be another's by now, and the mark as well: one too many costs that one a second try, and no more. */
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
