/** A fast path for a read with a single parent row, which is nearly every read. */
import { PgExecutor } from "postgraphile/@dataplan/pg";
import type { Common, Spec } from "./sql-cache/select-step.ts";

interface Rows {
  readonly rows: readonly unknown[];
}

interface Executor {
  readonly $$cache: symbol;
  _execute(
    context: object,
    text: string,
    values: readonly unknown[],
    name: string | undefined,
    publish: undefined,
  ): Promise<Rows>;
}

interface Found {
  readonly values: readonly unknown[];
}

type ExecuteAll = (specs: readonly Spec[], common: Common) => Promise<Found>;

function isExecuteAll(value: unknown): value is ExecuteAll {
  return typeof value === "function" && value.length === 2;
}

function isExecutor(executor: object): executor is Executor {
  return (
    typeof Reflect.get(executor, "$$cache") === "symbol" &&
    typeof Reflect.get(executor, "_execute") === "function"
  );
}

/** The number of queries that @dataplan/pg keeps per request. */
const maxQueries = 500;

interface Reads {
  get(query: string): Map<string, { readonly promise: Promise<readonly unknown[]> }> | undefined;
  set(query: string, reads: Map<string, { readonly promise: Promise<readonly unknown[]> }>): void;
}

/** A request's reads, stored where the original finds them too, and forgets them after a mutation. */
class RequestReads extends Map<string, Map<string, { readonly promise: Promise<readonly unknown[]> }>> {
  override set(...[query, reads]: Parameters<Reads["set"]>): this {
    if (this.size >= maxQueries) this.clear();
    return super.set(query, reads);
  }

  reset(): void {
    this.clear();
  }
}

function isReads(value: unknown): value is Reads {
  return typeof value === "object" && value !== null && "get" in value && "set" in value;
}

const ignore = (): void => undefined;

/** The library's own methods, taken before any plugin can replace them. */
const { executeWithCache, executeWithoutCache } = PgExecutor.prototype;
const originals = { executeWithCache, executeWithoutCache };

/**
 * Replaces the methods by which a PgExecutor (@dataplan/pg 1.1.2) is asked for rows: one read goes to `_execute` at once. The
 * original groups them, and waits for them by four promises. What it would explain, or is not known, is left to it; so is an
 * executor that a plugin has given methods of its own. Returns false where the executor is of another kind.
 */
export function readAlone(executor: object): boolean {
  if (!isExecutor(executor)) return false;
  const { $$cache } = executor;
  const replace = (name: "executeWithCache" | "executeWithoutCache", keeps: boolean): void => {
    const original: unknown = Reflect.get(executor, name);
    if (original !== originals[name] || !isExecuteAll(original)) return;
    const execute: ExecuteAll = (specs, common) => {
      const [spec] = specs;
      const { context, queryValues } = spec ?? {};
      if (
        specs.length !== 1 ||
        queryValues === undefined ||
        typeof context !== "object" ||
        context === null ||
        common.useTransaction === true ||
        (common.eventEmitter ?? null) !== null
      ) {
        return original.call(executor, specs, common);
      }
      const identifiers = JSON.stringify(queryValues);
      const read = (): Promise<readonly unknown[]> => readRows(executor, context, identifiers, common);
      return keeps ? readOnce(readsIn(context, $$cache), common, identifiers, read) : foundBy(read());
    };
    Object.defineProperty(executor, name, { value: execute, writable: true, configurable: true });
  };
  replace("executeWithCache", true);
  replace("executeWithoutCache", false);
  return true;
}

async function foundBy(rows: Promise<readonly unknown[]>): Promise<Found> {
  return { values: [await rows] };
}

/** The reads of the request whose context this is; made where there were none. */
function readsIn(context: object, $$cache: symbol): Reads {
  const found: unknown = Reflect.get(context, $$cache);
  if (isReads(found)) return found;
  const reads = new RequestReads();
  Reflect.set(context, $$cache, reads);
  return reads;
}

/** Makes the same read of a request only once, even if the first one is still in progress. */
function readOnce(
  reads: Reads,
  { text, rawSqlValues }: Common,
  identifiers: string,
  read: () => Promise<readonly unknown[]>,
): Promise<Found> {
  const query = `${text}\n${JSON.stringify(rawSqlValues)}`;
  let known = reads.get(query);
  if (known === undefined) {
    known = new Map();
    reads.set(query, known);
  }
  const before = known.get(identifiers);
  if (before !== undefined) return foundBy(before.promise);
  const promise = read();
  // Its readers get the error; without any reader, it must not end the thread as an unhandled rejection.
  promise.catch(ignore);
  known.set(identifiers, { promise });
  return foundBy(promise);
}

async function readRows(
  executor: Executor,
  context: object,
  identifiers: string,
  { text, rawSqlValues, identifierIndex, name }: Common,
): Promise<readonly unknown[]> {
  const at = identifierIndex ?? null;
  const values = at === null ? rawSqlValues : [...rawSqlValues, `[${identifiers}]`];
  const { rows } = await executor._execute(context, text, values, name, undefined);
  if (at === null) return rows;
  return rows.filter((row) => Array.isArray(row) && String(row[at]) === "0");
}
