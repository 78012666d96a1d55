/** Whether the SQL that a statement is put together from is there before any request, or made anew for each. */
import { TYPES } from "postgraphile/@dataplan/pg";
import { sql } from "postgraphile/pg-sql2";

/** What stands at `name`; nothing where a function is asked for it each time. */
function valueIn(holder: unknown, name: string): unknown {
  if (typeof holder !== "object" || holder === null) return undefined;
  return Object.getOwnPropertyDescriptor(holder, name)?.value;
}

function listIn(holder: unknown, name: string): readonly unknown[] {
  const list = valueIn(holder, name);
  return Array.isArray(list) ? list : [];
}

function isEach(holder: unknown, name: string, test: (item: unknown) => boolean): boolean {
  const list = valueIn(holder, name);
  return Array.isArray(list) && list.every(test);
}

/** What only has a method by which it becomes SQL, as pg-sql2 allows in most places, is asked for it by each request. */
const isSql = (value: unknown): boolean => sql.isSQL(value);

export function hasFixedType(codec: unknown): boolean {
  return isSql(valueIn(codec, "sqlType"));
}

function isFixedJoin(join: unknown): boolean {
  const names = valueIn(join, "attributeNames") ?? null;
  return (
    isSql(valueIn(join, "from")) &&
    isSql(valueIn(join, "alias")) &&
    (names === null || isSql(names)) &&
    (valueIn(join, "type") === "cross" || isEach(join, "conditions", isSql))
  );
}

/** It may also be worked out by a function of a plugin's. */
function isFixedOrder(order: unknown): boolean {
  return (
    (valueIn(order, "callback") ?? null) === null &&
    ((valueIn(order, "attribute") ?? null) !== null || isSql(valueIn(order, "fragment")))
  );
}

/** `select` is a step, or what a select that was put into another one has kept of its own. */
export function isFixedSelect(select: object): boolean {
  const fixed = valueIn(select, "fixedPlaceholderValues");
  return (
    isSql(valueIn(select, "alias")) &&
    isSql(valueIn(select, "from")) &&
    ["selects", "conditions", "havingConditions"].every((name) => isEach(select, name, isSql)) &&
    isEach(select, "joins", isFixedJoin) &&
    isEach(select, "orders", isFixedOrder) &&
    isEach(select, "groups", (group) => isSql(valueIn(group, "fragment"))) &&
    fixed instanceof Map &&
    fixed.values().every(isSql) &&
    areReadPlainly(select)
  );
}

/** By which values of PostgreSQL's own types are read. */
const ownCasts: ReadonlySet<unknown> = new Set(Object.values(TYPES).map(({ castFromPg }) => castFromPg));

/**
 * Where cursors or groups are asked for, the values that make them are read by SQL of their codecs', which is worked out anew for each
 * request: by a function that may be a plugin's.
 */
function areReadPlainly(select: object): boolean {
  if (valueIn(select, "needsCursor") === false && valueIn(select, "needsGroups") === false) return true;
  const resource = valueIn(select, "resource");
  const attributes = valueIn(valueIn(resource, "codec"), "attributes");
  const byName = (name: unknown): unknown => valueIn(valueIn(attributes, String(name)), "codec");
  const orders = listIn(select, "orders").map((order) =>
    (valueIn(order, "attribute") ?? null) === null
      ? valueIn(order, "codec")
      : byName(valueIn(order, "attribute")),
  );
  const groups = listIn(select, "groups").map((group) => valueIn(group, "codec"));
  // What an order is made unique by.
  const unique = listIn(listIn(resource, "uniques")[0], "attributes").map(byName);
  return [...orders, ...groups, ...unique].every(
    (codec) =>
      typeof codec === "object" &&
      codec !== null &&
      ownCasts.has(Reflect.get(codec, "castFromPg") ?? undefined),
  );
}
