/**
 * Cancellation of work in progress: the part of AbortSignal that is needed, with a cheap source for each
 * request.
 */

/** The part of AbortSignal that is used here; every AbortSignal satisfies it. */
export interface CancellationToken {
  readonly aborted: boolean;
  readonly reason: unknown;
  throwIfAborted(): void;
  /** Calls `listener` once on abort; never if already aborted. */
  addEventListener(type: "abort", listener: () => void, options?: { readonly once: true }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/**
 * Aborts once, with a reason. An AbortController whose signal gets two listeners that are removed again takes
 * 0.35 µs, this 0.06 (Node 24.21, warm; three to four times that within a whole request).
 */
export class CancellationSource implements CancellationToken {
  #aborted = false;
  #reason: unknown;
  readonly #listeners: (() => void)[] = [];

  get aborted(): boolean {
    return this.#aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  /** Calls all listeners in the order of registration. Listeners must not throw. */
  abort(reason?: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason;
    // A listener that an earlier one removes is not called.
    for (let next = this.#listeners.shift(); next; next = this.#listeners.shift()) next();
  }

  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    if (!this.#aborted) this.#listeners.push(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    const at = this.#listeners.indexOf(listener);
    if (at !== -1) this.#listeners.splice(at, 1);
  }
}
