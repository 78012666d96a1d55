/** What is said of revisions where anyone in the database may speak: it counts once the database says so, too. */
import { pause } from "../kernel/duration.ts";

/** Whether it is news to what is known, or may be to what is being asked; of the latter nobody knows yet which schemas matter. */
export type Interest = "known" | "asked" | "none";

export interface NoticesOptions {
  /** To whom a schema's having reached a revision would be news. */
  readonly interest: (database: string, schema: string, revision: bigint) => Interest;
  /** The revisions of schemas, as the database has them. */
  readonly read: (database: string, schemas: readonly string[]) => Promise<ReadonlyMap<string, bigint>>;
  /** Told of what the database says, and of what is said where it does not answer. */
  readonly believe: (database: string, schema: string, revision: bigint) => void;
  /** Told of a schema that has no revision: it is gone, or never had any. */
  readonly miss: (database: string, schema: string) => void;
}

/** A notice that comes alone is looked into at once; of many, so many schemas at a time, and so long after the time before. */
const mostSchemas = 1_000;
const pauseMs = 100;

/**
 * A probe takes PostgreSQL 7 ms, and a tenant's function that lies about another's schema (`pg_notify`) would cost that
 * tenant's next request up to four; looking up a revision takes 0.1 ms, and is done ten times a second at most, however many notices come.
 */
export class Notices {
  readonly #options: NoticesOptions;
  /** By database and schema, the newest revision said that is not looked into yet. */
  readonly #said = new Map<string, Map<string, bigint>>();
  readonly #stop = new AbortController();

  constructor(options: NoticesOptions) {
    this.#options = options;
  }

  hear(database: string, schema: string, revision: bigint): void {
    if (this.#stop.signal.aborted) return;
    const interest = this.#options.interest(database, schema, revision);
    if (interest === "none") return;
    const waiting = this.#said.get(database);
    if (waiting === undefined) {
      this.#said.set(database, new Map([[schema, revision]]));
      void this.#lookInto(database);
      return;
    }
    // Names that nobody is known to have can be made up without end, and what is lost with them is a late retry.
    if (interest === "asked" && waiting.size >= mostSchemas) return;
    if ((waiting.get(schema) ?? 0n) < revision) waiting.set(schema, revision);
  }

  close(): void {
    this.#stop.abort();
  }

  /** Never rejects. */
  async #lookInto(database: string): Promise<void> {
    const waiting = this.#said.get(database) ?? new Map<string, bigint>();
    while (waiting.size > 0 && !this.#stop.signal.aborted) {
      const said = new Map([...waiting].slice(0, mostSchemas));
      for (const schema of said.keys()) waiting.delete(schema);
      const { read, believe, miss } = this.#options;
      const found = await read(database, [...said.keys()]).catch(() => said);
      for (const schema of said.keys()) {
        const revision = found.get(schema);
        if (revision === undefined) miss(database, schema);
        else believe(database, schema, revision);
      }
      await pause(pauseMs, this.#stop.signal);
    }
    this.#said.delete(database);
  }
}
