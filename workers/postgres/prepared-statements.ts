/** Tracks which statements are prepared on one connection. */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Columns } from "../../src/shared/postgres/pipeline.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";

/**
 * PostgreSQL keeps a plan of 20–100 kB per statement and backend: 200 of them take 4–20 MB. With 1000 tenants on 8 connections, 400 and
 * 600 took the backends 4 to 12 and 6 to 20 % more memory, and PostgreSQL's CPU per request was the same within the noise.
 */
const maxNames = 200;

/**
 * Statements that PostgreSQL plans itself. Others, such as `execute`, may run something that was prepared or declared anew since;
 * their columns then change without an error.
 */
const planned = /^\s*(?:select|insert|update|delete|merge|with)\b/i;

interface Prepared {
  readonly text: string;
  columns: Columns | null;
}

/** How a statement has been used; it gets a name with its second use. */
interface Use {
  name: string | undefined;
}

/**
 * Names for the statements of one connection. A statement is sent unnamed at first and named from its second use on. With many
 * tenants on one connection, most statements are used once before they are evicted, and a named one costs a name on the wire, a
 * cached plan and its deallocation.
 */
export class Statements {
  /** Uses by tag and PostGraphile's name. */
  readonly #names: LRUCache<string, Use>;
  /** What the server is known to have prepared, by name. */
  readonly #prepared = new Map<string, Prepared>();
  #forgotten: string[] = [];

  constructor(max: number = maxNames) {
    this.#names = new LRUCache({
      max,
      dispose: ({ name }, _key, reason) => {
        if (name === undefined || reason !== "evict") return;
        this.#prepared.delete(name);
        this.#forgotten.push(name);
      },
    });
  }

  /**
   * The name to send for the statement that PostGraphile calls `name`, or undefined to send it unnamed. `tag` identifies the
   * tenant's search path and revisions: unqualified SQL means other tables on another path, and a changed table another result
   * type.
   */
  nameFor(tag: string, name: string): string | undefined {
    const key = `${tag}:${name}`;
    const use = this.#names.get(key);
    if (use === undefined) this.#names.set(key, { name: undefined });
    // PostgreSQL uses 63 bytes of a name; a longer one would be cut silently, and could then collide with others.
    else use.name ??= `${namespace}${tag}:${hash("sha1", name, "base64url")}`;
    return use?.name;
  }

  /** Also false if the name belongs to another text, which is then prepared anew instead of being confused with it. */
  isPrepared(name: string, text: string): boolean {
    return this.#prepared.get(name)?.text === text;
  }

  /** To be called once a statement was prepared under `name` and has run without an error. */
  prepared(name: string, text: string): void {
    this.#prepared.set(name, { text, columns: null });
  }

  /**
   * The columns of the statement prepared under `name`, or null if unknown. They never change: if a query's result has changed,
   * PostgreSQL refuses to run it, with an error after which everything is prepared anew.
   */
  columnsOf(name: string): Columns | null {
    return this.#prepared.get(name)?.columns ?? null;
  }

  /** Records the columns that PostgreSQL described for `name`, if they can never change. */
  described(name: string, columns: Columns): void {
    const prepared = this.#prepared.get(name);
    if (prepared !== undefined && planned.test(prepared.text)) prepared.columns = columns;
  }

  /** To be called when the server lacks an expected statement or can no longer use its plan. */
  forgetAll(): void {
    this.#names.clear();
    this.#prepared.clear();
  }

  /** To be called when everything is being deallocated. Uses still count: a statement used before is named at its next use. */
  forgetPrepared(): void {
    this.#prepared.clear();
    this.#forgotten = [];
  }

  /** Names evicted since the last call; the server still has them. */
  takeForgotten(): readonly string[] {
    if (this.#forgotten.length === 0) return this.#forgotten;
    const names = this.#forgotten;
    this.#forgotten = [];
    return names;
  }
}
