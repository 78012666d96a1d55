/** Determines whether the SQL that a statement is composed of is fixed before any request, or made anew for each. */
import { TYPES } from "postgraphile/@dataplan/pg";
import { sql } from "postgraphile/pg-sql2";

/** The value of the property `name`; undefined for a getter, which could return another one each time. */
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

/** Only real SQL: an object with a method that yields SQL, which pg-sql2 allows in most places, is asked by each request anew. */
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

/** Whether an order is fixed; a plugin's function may also compute it. */
function isFixedOrder(order: unknown): boolean {
  return (
    (valueIn(order, "callback") ?? null) === null &&
    ((valueIn(order, "attribute") ?? null) !== null || isSql(valueIn(order, "fragment")))
  );
}

/** Whether all SQL of `select` is fixed; it is a step, or the static part of a select that was inlined into another one. */
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

/** The casts that read values of PostgreSQL's own types. */
const ownCasts: ReadonlySet<unknown> = new Set(Object.values(TYPES).map(({ castFromPg }) => castFromPg));

/**
 * Whether cursors and groups are read with known casts only. Their values are read by SQL of their codecs, which is computed anew
 * for each request, possibly by a plugin's function.
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
  // The columns that make an order unique.
  const unique = listIn(listIn(resource, "uniques")[0], "attributes").map(byName);
  return [...orders, ...groups, ...unique].every(
    (codec) =>
      typeof codec === "object" &&
      codec !== null &&
      ownCasts.has(Reflect.get(codec, "castFromPg") ?? undefined),
  );
}
