/** Has PostgreSQL plan the probes before a tenant needs one. */
import { pause } from "../shared/kernel/duration.ts";

export interface PlanWarmerOptions {
  /** Makes the plans of a database's probes if they are missing or invalidated. */
  readonly warm: (database: string) => Promise<unknown>;
}

/** Delay after a change, since changes come in groups, and the pause after each time. */
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
  /** Databases with a running loop, and whether a change was reported since it last ran. */
  readonly #scheduled = new Map<string, boolean>();
  readonly #stop = new AbortController();

  constructor(options: PlanWarmerOptions) {
    this.#options = options;
  }

  /** Notes that `database` has no plans yet, or that something has changed there. */
  schedule(database: string): void {
    if (this.#stop.signal.aborted) return;
    const idle = !this.#scheduled.has(database);
    this.#scheduled.set(database, true);
    if (idle) void this.#warm(database);
  }

  close(): void {
    this.#stop.abort();
  }

  /** Never rejects: a probe without a plan makes its own. */
  async #warm(database: string): Promise<void> {
    const { signal } = this.#stop;
    await pause(firstPauseMs, signal);
    while (this.#scheduled.get(database) === true && !signal.aborted) {
      this.#scheduled.set(database, false);
      await this.#options.warm(database).catch(() => undefined);
      await pause(pauseMs, signal);
    }
    this.#scheduled.delete(database);
  }
}
