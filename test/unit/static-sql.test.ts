import { TYPES } from "postgraphile/@dataplan/pg";
import { $$toSQL, sql } from "postgraphile/pg-sql2";
import { describe, expect, it } from "vitest";
import { hasFixedType, isFixedSelect } from "../../workers/graphile/sql-cache/static-sql.ts";

const fixed = sql`1`;
const join = { type: "inner", from: fixed, alias: fixed, conditions: [fixed] };
const order = { fragment: fixed, codec: TYPES.int, direction: "ASC" };
const group = { fragment: fixed, codec: TYPES.int };

const select = {
  alias: fixed,
  from: fixed,
  selects: [fixed],
  conditions: [fixed],
  havingConditions: [fixed],
  joins: [join, { type: "cross", from: fixed, alias: fixed }, { ...join, attributeNames: sql`(v)` }],
  orders: [order, { attribute: "name", direction: "ASC" }],
  groups: [group],
  fixedPlaceholderValues: new Map([[Symbol(), fixed]]),
  needsCursor: false,
  needsGroups: false,
};

/** Two ways to make SQL of a request at the last moment. */
const late = { [$$toSQL]: () => sql.literal(Math.random()) };
const withGetter = (of: object, name: string): object =>
  Object.defineProperty({ ...of }, name, { get: () => sql.literal(Math.random()) });

describe("a select", () => {
  it("whose SQL is all fixed may have its text kept", () => {
    expect(isFixedSelect(select)).toBe(true);
    expect(hasFixedType(TYPES.int)).toBe(true);
  });

  it.each<[string, object]>([
    ["alias", { alias: late }],
    ["source", { from: late }],
    ["source, by a getter", withGetter(select, "from")],
    ["column", { selects: [fixed, late] }],
    ["condition", { conditions: [fixed, late] }],
    ["condition of groups", { havingConditions: [late] }],
    ["joined source", { joins: [{ ...join, from: late }] }],
    ["joined source, by a getter", { joins: [withGetter(join, "from")] }],
    ["joined alias", { joins: [{ ...join, alias: late }] }],
    ["joined names", { joins: [{ ...join, attributeNames: late }] }],
    ["condition of a join", { joins: [{ ...join, conditions: [fixed, late] }] }],
    ["order", { orders: [order, { ...order, fragment: late }] }],
    ["order, by a getter", { orders: [withGetter(order, "fragment")] }],
    ["order, by a function", { orders: [{ attribute: "name", callback: () => [fixed, TYPES.int, false] }] }],
    ["group", { groups: [{ ...group, fragment: late }] }],
    ["placeholder", { fixedPlaceholderValues: new Map([[Symbol(), late]]) }],
    ["cursor", { needsCursor: true, orders: [{ ...order, codec: { castFromPg: () => fixed } }] }],
    ["group's value", { needsGroups: true, groups: [{ ...group, codec: { castFromPg: () => fixed } }] }],
  ])("whose %s becomes SQL for each request anew may not", (_what, more) => {
    const changed = Object.defineProperties({ ...select }, Object.getOwnPropertyDescriptors(more));
    expect(isFixedSelect(changed)).toBe(false);
  });
});

it("a parameter's type that becomes SQL for each request anew prevents keeping a text", () => {
  expect(hasFixedType({ ...TYPES.int, sqlType: late })).toBe(false);
  expect(hasFixedType(withGetter(TYPES.int, "sqlType"))).toBe(false);
});
