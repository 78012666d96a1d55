/**
 * Notifications about revisions are untrusted (any role may NOTIFY): each counts only once the database
 * confirms it.
 */
import { pause } from "../shared/kernel/duration.ts";

/**
 * Whether a revision outdates a cached decision (`known`), or may outdate one that is being made, whose
 * schemas are not known yet (`asked`).
 */
export type Interest = "known" | "asked" | "none";

/** The revisions found in a database, and whether it is a replica, which may lag behind. */
export interface Revisions {
  readonly found: ReadonlyMap<string, bigint>;
  readonly replica: boolean;
}

export interface RevisionNoticesOptions {
  /** Whose decision a schema's new revision would outdate. */
  readonly interest: (database: string, schema: string, revision: bigint) => Interest;
  /** Reads the revisions of schemas from the database. */
  readonly read: (database: string, schemas: readonly string[]) => Promise<Revisions>;
  /** Called with what the database says, or with the notification itself if the database does not answer. */
  readonly recordRevision: (database: string, schema: string, revision: bigint) => void;
  /** Called for a schema that has no revision: it was dropped, or never had one. */
  readonly recordMissing: (database: string, schema: string) => void;
  readonly clock?: { now(): number };
}

/** A single notification is checked at once; many are checked in batches of this many schemas, this far apart. */
const maxSchemas = 1_000;
const pauseMs = 100;
/** A revision that a replica does not have yet is looked up again after pauses that grow to this. */
const longestPauseMs = 5_000;
/**
 * How long a notification that concerns no decision is kept for a replica: a tenant decided meanwhile is
 * decided on what the replica has.
 */
const unknownMs = 600_000;

interface Said {
  revision: bigint;
  /** When to look it up next. */
  atMs: number;
  pauseMs: number;
  readonly sinceMs: number;
}

/** The pending notifications of one database. */
interface Waiting {
  /** The newest revision announced for each schema and not found yet. */
  readonly said: Map<string, Said>;
  /** Aborts when something has to be looked up at once. */
  wake: AbortController;
}

/**
 * A probe takes PostgreSQL 7 ms, and a tenant's function that lies about another's schema (`pg_notify`) would
 * cost that tenant's next request up to four of them. Looking up a revision takes 0.1 ms, and happens at most
 * ten times a second, however many notifications arrive.
 *
 * For a replica, LISTEN runs on its primary, which announces a change before the replica has it. The
 * notification is kept until the replica shows it; a lie costs one lookup every five seconds.
 */
export class RevisionNotices {
  readonly #options: RevisionNoticesOptions;
  readonly #clock: { now(): number };
  readonly #waiting = new Map<string, Waiting>();
  /** Databases that were replicas at the last lookup. */
  readonly #replicas = new Set<string>();
  readonly #stop = new AbortController();

  constructor(options: RevisionNoticesOptions) {
    this.#options = options;
    this.#clock = options.clock ?? performance;
  }

  /** Records that `database` was a replica when it was asked. */
  replica(database: string): void {
    this.#replicas.add(database);
  }

  receive(database: string, schema: string, revision: bigint): void {
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
    // Names that concern no cached decision can be made up without end; dropping a genuine one costs only a
    // late retry.
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
    // The earlier notification may have been a lie: this one must not wait for its pause to end.
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
      // Notifications that arrive meanwhile are looked up together with the next ones due.
      await pause(pauseMs, signal);
      waiting.wake = new AbortController();
      const nextMs = firstOf(waiting) - this.#clock.now();
      if (nextMs > 0 && nextMs < Number.POSITIVE_INFINITY)
        await pause(nextMs, AbortSignal.any([signal, waiting.wake.signal]));
    }
    this.#waiting.delete(database);
  }

  async #look(database: string, { said }: Waiting, due: readonly [string, Said][]): Promise<void> {
    const { read, recordRevision, recordMissing } = this.#options;
    const asked = due.map(([schema, each]) => ({ schema, each, ...each }));
    const names = asked.map(({ schema }) => schema);
    const answer = await read(database, names).catch(() => null);
    if (answer?.replica === true) this.#replicas.add(database);
    else if (answer !== null) this.#replicas.delete(database);
    const replica = this.#replicas.has(database);
    for (const { schema, each, revision, atMs } of asked) {
      const found = answer?.found.get(schema);
      if (found !== undefined) recordRevision(database, schema, found);
      else if (answer !== null) recordMissing(database, schema);
      // The database does not answer, and a decision that is forgotten needlessly is simply made again.
      else if (!replica) recordRevision(database, schema, revision);
      // The answer does not cover a notification that arrived in the meantime.
      if (each.revision !== revision || each.atMs !== atMs) continue;
      if (!replica || (found ?? -1n) >= revision || this.#isOver(database, schema, each)) said.delete(schema);
      else {
        each.atMs = this.#clock.now() + each.pauseMs;
        each.pauseMs = Math.min(longestPauseMs, 2 * each.pauseMs);
      }
    }
  }

  /** Whether to stop asking a replica for a revision that it does not have yet. */
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
