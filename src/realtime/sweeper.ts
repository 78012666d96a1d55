/** Deletes events that no host needs any more. */
import { type EventDatabase, longestKeptMs, type Snapshot, sweep } from "./event-table.ts";

/** How often, and how many statements at a time at most. */
const everyMs = 10_000;
const maxStatements = 20;
/** As many as a host may have kept snapshots for: it may keep events for a day, and then sweeps later than it could. */
const maxMarks = 1_000;

interface Mark {
  readonly atMs: number;
  readonly snapshot: Snapshot;
}

/**
 * What is older than the longest retention is deleted by a snapshot taken that long ago. An event's own time would not do:
 * a long transaction commits old events.
 */
export class Sweeper {
  readonly #database: EventDatabase;
  readonly #everyMs: number;
  #marks: Mark[] = [];
  #nextMs = 0;

  constructor(database: EventDatabase, options: { readonly everyMs?: number } = {}) {
    this.#database = database;
    this.#everyMs = options.everyMs ?? everyMs;
  }

  /** To be called with each new snapshot; sweeps if it is time to. */
  async consider(snapshot: Snapshot, nowMs: number): Promise<void> {
    if (nowMs < this.#nextMs) return;
    this.#nextMs = nowMs + this.#everyMs;
    if (this.#marks.length < maxMarks) this.#marks.push({ atMs: nowMs, snapshot });
    const untilMs = nowMs - (await longestKeptMs(this.#database));
    const last = this.#marks.findLastIndex(({ atMs }) => atMs <= untilMs);
    const mark = this.#marks[last];
    if (mark === undefined) return;
    this.#marks = this.#marks.slice(last);
    for (let count = 0; count < maxStatements; count += 1) {
      if ((await sweep(this.#database, mark.snapshot)) === 0) return;
    }
  }

  /** Forgets the snapshots: they were another server's. */
  reset(): void {
    this.#marks = [];
  }
}
