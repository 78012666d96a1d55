/** Which statements are prepared on one connection. */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import type { Columns } from "./pipeline.ts";

/** PostgreSQL keeps a plan of 20–100 kB per statement and backend: 200 of them are 4–20 MB. */
const maxNames = 200;

/**
 * What PostgreSQL plans by itself. Others, such as `execute`, may run what was prepared or declared anew since: their columns are then
 * others, without an error.
 */
const planned = /^\s*(?:select|insert|update|delete|merge|with)\b/i;

interface Prepared {
  readonly text: string;
  columns: Columns | null;
}

/** Of a statement; its name once it has been used twice. */
interface Use {
  name: string | undefined;
}

/**
 * Names for statements of one connection. A statement is sent unnamed at first and named from its second use on: with
 * many tenants on one connection most statements are used once before their turn to be forgotten comes, and a named
 * one costs a name on the wire, a cached plan and its deallocation.
 */
export class Statements {
  /** By tag and what PostGraphile calls them. */
  readonly #names: LRUCache<string, Use>;
  /** What the server is known to have, by name. */
  readonly #prepared = new Map<string, Prepared>();
  #forgotten: string[] = [];

  constructor(most: number = maxNames) {
    this.#names = new LRUCache({
      max: most,
      dispose: ({ name }, _key, reason) => {
        if (name === undefined || reason !== "evict") return;
        this.#prepared.delete(name);
        this.#forgotten.push(name);
      },
    });
  }

  /**
   * The name to send for the statement that PostGraphile calls `name`, or undefined: unnamed. `tag` tells the tenant's
   * path and revisions: unqualified SQL means other tables on another path, and a changed table another result type.
   */
  nameFor(tag: string, name: string): string | undefined {
    const key = `${tag}:${name}`;
    const use = this.#names.get(key);
    if (use === undefined) this.#names.set(key, { name: undefined });
    // 63 bytes are significant in PostgreSQL; a longer name would be cut, silently, to one that others share.
    else use.name ??= `${namespace}${tag}:${hash("sha1", name, "base64url")}`;
    return use?.name;
  }

  /** False also where the name is another text's: it is then prepared anew, never taken for it. */
  isPrepared(name: string, text: string): boolean {
    return this.#prepared.get(name)?.text === text;
  }

  /** To be called once a statement was prepared under `name`, and run, without an error. */
  prepared(name: string, text: string): void {
    this.#prepared.set(name, { text, columns: null });
  }

  /**
   * The columns of what is prepared under `name`, where they are known. They are always the same: PostgreSQL refuses to run a
   * query whose result has changed, by an error after which everything is prepared anew.
   */
  columnsOf(name: string): Columns | null {
    return this.#prepared.get(name)?.columns ?? null;
  }

  /** To be called with the columns that PostgreSQL told of what is prepared under `name`; kept where they are always the same. */
  described(name: string, columns: Columns): void {
    const prepared = this.#prepared.get(name);
    if (prepared !== undefined && planned.test(prepared.text)) prepared.columns = columns;
  }

  /** To be called when the server turned out not to have what it should, or a plan that it cannot use any more. */
  forgetAll(): void {
    this.#names.clear();
    this.#prepared.clear();
  }

  /** Names that fell out since the last call; the server still has them. */
  takeForgotten(): readonly string[] {
    if (this.#forgotten.length === 0) return this.#forgotten;
    const names = this.#forgotten;
    this.#forgotten = [];
    return names;
  }
}
