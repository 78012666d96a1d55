/** Has probes planned before a tenant asks. */
import { pause } from "../shared/kernel/duration.ts";

export interface PlanWarmerOptions {
  /** Has the plans of a database's probes made where there are none, or none that still count. */
  readonly rehearse: (database: string) => Promise<unknown>;
}

/** Behind a change, which seldom comes alone, and behind a rehearsal. */
const firstPauseMs = 100;
const pauseMs = 1_000;

/**
 * PostgreSQL gives up all plans of a session whenever a schema is made, dropped or renamed, and a probe's take 15 ms of CPU to be made
 * again: three times what the probe itself takes, and a tenant's first request comes just when its schema has been made. So it is
 * done when a change is heard of, once a second at most; where nothing was given up it takes 2 ms (18.4, 36,000 relations).
 */
export class PlanWarmer {
  readonly #options: PlanWarmerOptions;
  /** Databases that are being seen to, and whether something was heard since. */
  readonly #heard = new Map<string, boolean>();
  readonly #stop = new AbortController();

  constructor(options: PlanWarmerOptions) {
    this.#options = options;
  }

  /** Takes note that `database` has no plans yet, or that something has changed there. */
  hear(database: string): void {
    if (this.#stop.signal.aborted) return;
    const idle = !this.#heard.has(database);
    this.#heard.set(database, true);
    if (idle) void this.#seeTo(database);
  }

  close(): void {
    this.#stop.abort();
  }

  /** Never rejects: a probe that has no plan makes its own. */
  async #seeTo(database: string): Promise<void> {
    const { signal } = this.#stop;
    await pause(firstPauseMs, signal);
    while (this.#heard.get(database) === true && !signal.aborted) {
      this.#heard.set(database, false);
      await this.#options.rehearse(database).catch(() => undefined);
      await pause(pauseMs, signal);
    }
    this.#heard.delete(database);
  }
}
