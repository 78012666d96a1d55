/** Has PostgreSQL plan the probes before a tenant needs one. */
import { pause } from "../shared/kernel/duration.ts";

export interface PlanWarmerOptions {
  /** Makes the plans of a database's probes if they are missing or invalidated. */
  readonly rehearse: (database: string) => Promise<unknown>;
}

/** Delay after a change, since changes come in groups, and the pause after each rehearsal. */
const firstPauseMs = 100;
const pauseMs = 1_000;

/**
 * PostgreSQL invalidates all plans of a session whenever a schema is created, dropped or renamed, and
 * replanning a probe takes 15 ms of CPU: three times the probe itself. A tenant's first request comes just
 * after its schema was created. So plans are remade when a change is reported, at most once a second; if none
 * was invalidated this takes 2 ms (18.4, 36,000 relations).
 */
export class PlanWarmer {
  readonly #options: PlanWarmerOptions;
  /** Databases with a running loop, and whether a change was reported since its last rehearsal. */
  readonly #heard = new Map<string, boolean>();
  readonly #stop = new AbortController();

  constructor(options: PlanWarmerOptions) {
    this.#options = options;
  }

  /** Notes that `database` has no plans yet, or that something has changed there. */
  hear(database: string): void {
    if (this.#stop.signal.aborted) return;
    const idle = !this.#heard.has(database);
    this.#heard.set(database, true);
    if (idle) void this.#seeTo(database);
  }

  close(): void {
    this.#stop.abort();
  }

  /** Never rejects: a probe without a plan makes its own. */
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
