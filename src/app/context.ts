/** What the parts of a host receive at its start, and how they are closed. */
import type { Config } from "../config/config.ts";
import type { Observe } from "../observability/observation.ts";

export interface HostContext {
  readonly config: Config;
  readonly version: string;
  /** Distinguishes the host from others on the same database; its cells append their own names. */
  readonly applicationName: string;
  readonly observe: Observe;
  /** Whatever starts something adds the function that ends it. */
  readonly started: Started;
}

/** Closes everything that was started, in reverse order, even if closing a part fails. */
export class Started {
  readonly #closers: (() => unknown)[] = [];

  add(close: () => unknown): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) {
      // A part that fails to close must not keep the others open.
      await Promise.resolve()
        .then(close)
        .catch(() => undefined);
    }
  }
}
