/** What is said of revisions where anyone in the database may speak: it counts once the database says so, too. */
import { pause } from "../shared/kernel/duration.ts";

/** Whether it is news to what is known, or may be to what is being asked; of the latter nobody knows yet which schemas matter. */
export type Interest = "known" | "asked" | "none";

/** What a database has, and whether that is all that there is: a replica may not have come to it yet. */
export interface Revisions {
  readonly found: ReadonlyMap<string, bigint>;
  readonly replica: boolean;
}

export interface RevisionNoticesOptions {
  /** To whom a schema's having reached a revision would be news. */
  readonly interest: (database: string, schema: string, revision: bigint) => Interest;
  /** The revisions of schemas, as the database has them. */
  readonly read: (database: string, schemas: readonly string[]) => Promise<Revisions>;
  /** Told of what the database says, and of what is said where it does not answer. */
  readonly believe: (database: string, schema: string, revision: bigint) => void;
  /** Told of a schema that has no revision: it is gone, or never had any. */
  readonly miss: (database: string, schema: string) => void;
  readonly clock?: { now(): number };
}

/** A notice that comes alone is looked into at once; of many, so many schemas at a time, and so long after the time before. */
const maxSchemas = 1_000;
const pauseMs = 100;
/** What a replica has not come to yet is asked for again after pauses that grow to this. */
const longestPauseMs = 5_000;
/** What is nobody's news is remembered for so long: a tenant that is decided meanwhile is decided by what the replica has. */
const unknownMs = 600_000;

interface Said {
  revision: bigint;
  /** When it is to be looked into. */
  atMs: number;
  pauseMs: number;
  readonly sinceMs: number;
}

/** Of one database. */
interface Waiting {
  /** By schema, what is not found yet; the newest revision of each. */
  readonly said: Map<string, Said>;
  /** Aborts when something is to be looked into at once. */
  wake: AbortController;
}

/**
 * A probe takes PostgreSQL 7 ms, and a tenant's function that lies about another's schema (`pg_notify`) would cost that
 * tenant's next request up to four; looking up a revision takes 0.1 ms, and is done ten times a second at most, however many notices come.
 *
 * A replica is listened to by its primary, which tells of a change before the replica has it. What it says is kept until it is found
 * there: a lie costs one look every five seconds.
 */
export class RevisionNotices {
  readonly #options: RevisionNoticesOptions;
  readonly #clock: { now(): number };
  readonly #waiting = new Map<string, Waiting>();
  /** As far as was seen when one was looked into last. */
  readonly #replicas = new Set<string>();
  readonly #stop = new AbortController();

  constructor(options: RevisionNoticesOptions) {
    this.#options = options;
    this.#clock = options.clock ?? performance;
  }

  /** Takes note that `database` was a replica when it was asked. */
  replica(database: string): void {
    this.#replicas.add(database);
  }

  hear(database: string, schema: string, revision: bigint): void {
    if (this.#stop.signal.aborted) return;
    const interest = this.#options.interest(database, schema, revision);
    if (interest === "none" && !this.#replicas.has(database)) return;
    const waiting = this.#waiting.get(database);
    if (waiting === undefined) {
      const first: Waiting = { said: new Map(), wake: new AbortController() };
      this.#note(first, schema, revision);
      this.#waiting.set(database, first);
      void this.#lookInto(database, first);
      return;
    }
    // Names that nobody is known to have can be made up without end, and what is lost with them is a late retry.
    if (interest !== "known" && waiting.said.size >= maxSchemas && !waiting.said.has(schema)) return;
    this.#note(waiting, schema, revision);
    waiting.wake.abort();
  }

  close(): void {
    this.#stop.abort();
  }

  #note({ said }: Waiting, schema: string, revision: bigint): void {
    const nowMs = this.#clock.now();
    const known = said.get(schema);
    if (known === undefined) {
      said.set(schema, { revision, atMs: nowMs, pauseMs, sinceMs: nowMs });
      return;
    }
    // What was told before may be a lie; whether this is found is not to wait for that.
    known.atMs = nowMs;
    known.pauseMs = pauseMs;
    if (known.revision < revision) known.revision = revision;
  }

  /** Never rejects. */
  async #lookInto(database: string, waiting: Waiting): Promise<void> {
    const { signal } = this.#stop;
    while (waiting.said.size > 0 && !signal.aborted) {
      const nowMs = this.#clock.now();
      const due = [...waiting.said].filter(([, { atMs }]) => atMs <= nowMs).slice(0, maxSchemas);
      if (due.length > 0) await this.#look(database, waiting, due);
      // Whatever comes meanwhile is looked into with what is due next.
      await pause(pauseMs, signal);
      waiting.wake = new AbortController();
      const nextMs = firstOf(waiting) - this.#clock.now();
      if (nextMs > 0 && nextMs < Number.POSITIVE_INFINITY)
        await pause(nextMs, AbortSignal.any([signal, waiting.wake.signal]));
    }
    this.#waiting.delete(database);
  }

  async #look(database: string, { said }: Waiting, due: readonly [string, Said][]): Promise<void> {
    const { read, believe, miss } = this.#options;
    const asked = due.map(([schema, each]) => ({ schema, each, ...each }));
    const names = asked.map(({ schema }) => schema);
    const answer = await read(database, names).catch(() => null);
    if (answer?.replica === true) this.#replicas.add(database);
    else if (answer !== null) this.#replicas.delete(database);
    const replica = this.#replicas.has(database);
    for (const { schema, each, revision, atMs } of asked) {
      const found = answer?.found.get(schema);
      if (found !== undefined) believe(database, schema, found);
      else if (answer !== null) miss(database, schema);
      // Nobody knows better, and a decision that is forgotten in vain is made again.
      else if (!replica) believe(database, schema, revision);
      // What was said meanwhile this does not answer.
      if (each.revision !== revision || each.atMs !== atMs) continue;
      if (!replica || (found ?? -1n) >= revision || this.#isOver(database, schema, each)) said.delete(schema);
      else {
        each.atMs = this.#clock.now() + each.pauseMs;
        each.pauseMs = Math.min(longestPauseMs, 2 * each.pauseMs);
      }
    }
  }

  /** Whether a replica need not be asked again for what it has not come to yet. */
  #isOver(database: string, schema: string, { revision, sinceMs }: Said): boolean {
    if (this.#options.interest(database, schema, revision) !== "none") return false;
    return this.#clock.now() - sinceMs > unknownMs;
  }
}

function firstOf({ said }: Waiting): number {
  let firstMs = Number.POSITIVE_INFINITY;
  for (const { atMs } of said.values()) firstMs = Math.min(firstMs, atMs);
  return firstMs;
}
