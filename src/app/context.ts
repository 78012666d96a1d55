/** What the parts of a host are given as it starts, and how they are closed again. */
import type { Config } from "../config/config.ts";
import type { Observe } from "../observability/observation.ts";

export interface HostContext {
  readonly config: Config;
  readonly version: string;
  /** Names the host among others on the same database; its cells add theirs. */
  readonly applicationName: string;
  readonly observe: Observe;
  /** Whoever starts something adds its end. */
  readonly started: Started;
}

/** Closes what was started, in reverse; every part gets its turn whatever the others do. */
export class Started {
  readonly #closers: (() => unknown)[] = [];

  add(close: () => unknown): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) {
      // A part that cannot be closed must not keep the others open.
      await Promise.resolve()
        .then(close)
        .catch(() => undefined);
    }
  }
}
