import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  GraphQLEnumType,
  GraphQLInputObjectType,
  type GraphQLObjectType,
  GraphQLSchema,
  GraphQLString,
  isObjectType,
  GraphQLObjectType as ObjectType,
  printSchema,
} from "postgraphile/graphql";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { compactSchema } from "../../workers/instance/compact-schema.ts";

setFlagsFromString("--allow-natives-syntax");
const isFast = z
  .function({ input: [z.unknown()], output: z.boolean() })
  .implement((value) => Boolean(runInNewContext("(value) => %HasFastProperties(value)")(value)));

const plan = (): null => null;
const apply = (): void => undefined;
const item = (part: string): string => ["The ", part, " of an item."].join("");

function made(): GraphQLSchema {
  const size = new GraphQLEnumType({
    name: "Size",
    values: { SMALL: { description: item("size"), extensions: { grafast: { apply } } }, LARGE: {} },
  });
  const filter = new GraphQLInputObjectType({
    name: "Filter",
    fields: { size: { type: size, extensions: { grafast: { apply } } } },
  });
  const query = new ObjectType({
    name: "Query",
    description: `${item("query")} 👍`,
    extensions: { grafast: { assertStep: plan }, more: 1 },
    fields: {
      item: {
        type: GraphQLString,
        description: item("name"),
        args: {
          filter: { type: filter, description: item("size"), extensions: { grafast: { applyPlan: plan } } },
        },
        extensions: { grafast: { plan } },
      },
      broken: { type: GraphQLString, description: "\ud800 alone" },
    },
  });
  return new GraphQLSchema({ query });
}

function queryOf(schema: GraphQLSchema): GraphQLObjectType {
  const query = schema.getType("Query");
  if (!isObjectType(query)) throw new Error("no query");
  return query;
}

describe("a compacted schema", () => {
  const [before, after] = [made(), made()];
  compactSchema(after);
  const { item: field, broken } = queryOf(after).getFields();

  it("reads as before: descriptions, extensions, and no names that an object inherits", () => {
    expect(printSchema(after)).toBe(printSchema(before));
    expect(field?.extensions).toEqual(queryOf(before).getFields()["item"]?.extensions);
    expect(queryOf(after).extensions).toEqual(queryOf(before).extensions);
    expect(broken?.extensions).toEqual({});
    expect("toString" in (field?.extensions ?? {}) || "toString" in (broken?.extensions ?? {})).toBe(false);
    expect(broken?.description).toBe("\ud800 alone");
  });

  it("keeps extensions in objects of a fixed layout, which may still be written", () => {
    expect(isFast(queryOf(before).getFields()["item"]?.extensions)).toBe(false);
    for (const each of [field, field?.args[0], broken]) expect(isFast(each?.extensions)).toBe(true);
    Object.assign(broken?.extensions ?? {}, { note: "later" });
    expect(broken?.extensions).toEqual({ note: "later" });
  });

  it("leaves extensions alone that are frozen", () => {
    const schema = made();
    const frozen = Object.freeze(queryOf(schema).extensions);
    compactSchema(schema);
    expect(queryOf(schema).extensions).toBe(frozen);
  });
});
