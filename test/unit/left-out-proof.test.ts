import { buildSchema } from "postgraphile/graphql";
import { describe, expect, it } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { BlueprintSpec, LeftOutObject } from "../../src/shared/model/blueprint-spec.ts";
import { assertSameApi, withoutLeftOut } from "../../workers/instance/left-out-proof.ts";

const none = "0";
const type = (oid: string, name: string, more: object = {}): object => ({
  _id: oid,
  typname: name,
  typnamespace: "1",
  typcategory: "E",
  typelem: none,
  typbasetype: none,
  typrelid: none,
  ...more,
});
const relation = (oid: string, name: string, rowType: string): object => ({
  _id: oid,
  relname: name,
  relnamespace: "1",
  relkind: "r",
  reltype: rowType,
  reloftype: none,
});
const proc = (oid: string, name: string, result: string, given: readonly string[]): object => ({
  _id: oid,
  proname: name,
  pronamespace: "1",
  prorettype: result,
  provariadic: none,
  proargtypes: given.join(" "),
  proallargtypes: null,
});

/** Oids are unique in each catalogue alone. */
const introspection = {
  namespaces: [{ _id: "1", nspname: "app" }],
  types: [
    type("100", "mood"),
    type("101", "_mood", { typcategory: "A", typelem: "100" }),
    type("102", "good", { typbasetype: "100" }),
    type("103", "moods", { typcategory: "R" }),
    type("104", "moodses", { typcategory: "R" }),
    type("110", "item", { typrelid: "200" }),
    type("111", "_item", { typcategory: "A", typelem: "110" }),
    type("120", "part", { typrelid: "300" }),
    type("130", "plain"),
  ],
  enums: [{ enumtypid: "100" }, { enumtypid: "130" }],
  ranges: [{ rngtypid: "103", rngsubtype: "100", rngmultitypid: "104" }],
  classes: [relation("200", "item", "110"), relation("300", "part", "120"), relation("100", "other", none)],
  attributes: [
    { attrelid: "200", atttypid: "101" },
    { attrelid: "300", atttypid: "130" },
  ],
  constraints: [
    { conname: "key", conrelid: "200", confrelid: none, contypid: none },
    { conname: "reference", conrelid: "300", confrelid: "200", contypid: none },
    { conname: "kept", conrelid: "300", confrelid: none, contypid: none },
  ],
  indexes: [{ indrelid: "200", indexrelid: "201" }],
  inherits: [{ inhrelid: "300", inhparent: "200" }],
  policies: [{ polrelid: "200" }],
  procs: [
    proc("100", "takes_moods", "130", ["130", "104"]),
    proc("101", "gives_items", "111", []),
    proc("102", "plain", "130", ["120"]),
    proc("103", "version", "130", []),
  ],
};

const object = (kind: LeftOutObject["kind"], oid: string, name: string): LeftOutObject => ({
  kind,
  oid,
  schema: "acme",
  name,
  reason: `${kind} app.${name} is hidden`,
});
const specWith = (...leftOut: readonly LeftOutObject[]): BlueprintSpec => ({
  ...specOf("pooled", { app: "acme" }, 1),
  tenant: tenantId("acme"),
  leftOut,
});
const text = JSON.stringify(introspection);

describe("an introspection without something", () => {
  it("lacks a function, and nothing else", () => {
    const left = JSON.parse(withoutLeftOut(text, specWith(object("function", "103", "version"))));
    expect(left).toEqual({ ...introspection, procs: introspection.procs.slice(0, 3) });
  });

  it("lacks all that cannot be without a type: its likes, relations with a column of it, and functions of these", () => {
    const left = JSON.parse(withoutLeftOut(text, specWith(object("type", "100", "mood"))));
    const ids = (rows: readonly { _id: string }[]): readonly string[] => rows.map(({ _id: oid }) => oid);
    expect(ids(left.types)).toEqual(["120", "130"]);
    expect(ids(left.classes)).toEqual(["300", "100"]);
    expect(ids(left.procs)).toEqual(["102", "103"]);
    expect(left).toMatchObject({
      enums: [{ enumtypid: "130" }],
      ranges: [],
      attributes: [{ attrelid: "300" }],
      constraints: [{ conname: "kept" }],
      indexes: [],
      inherits: [],
      policies: [],
    });
  });

  it("lacks a relation, what refers to it, and functions of its rows, but no relation that refers to it", () => {
    const left = JSON.parse(withoutLeftOut(text, specWith(object("relation", "200", "item"))));
    expect(left.classes.map(({ relname }: { relname: string }) => relname)).toEqual(["part", "other"]);
    expect(left.procs.map(({ proname }: { proname: string }) => proname)).toEqual([
      "takes_moods",
      "plain",
      "version",
    ]);
    expect(left.constraints).toMatchObject([{ conname: "kept" }]);
  });

  it.each([
    ["has gone", object("function", "999", "version")],
    ["is called otherwise by now", object("function", "103", "other")],
    ["lies in another schema by now", { ...object("function", "103", "version"), schema: "elsewhere" }],
  ])("cannot be had where that %s", (_, missing) => {
    expect(() => withoutLeftOut(text, specWith(missing))).toThrow(
      expect.objectContaining({ code: "SCHEMA_CHANGED" }),
    );
  });

  it("cannot be had where something else has its name: SQL could not tell them apart", () => {
    expect(() => withoutLeftOut(text, specWith(object("function", "102", "plain")))).toThrow(
      expect.objectContaining({
        code: "BUILD_NOT_SHAREABLE",
        message: expect.stringMatching(/the same name/),
      }),
    );
  });
});

describe("an API that is another without what is left out", () => {
  const spec = specWith(object("function", "103", "version"));
  const full = buildSchema("type Query { version: String, mood: Mood } enum Mood { calm keen }");
  it.each([
    ["a field", "type Query { mood: Mood } enum Mood { calm keen }", "Query.version would be gone"],
    ["a value", "type Query { version: String, mood: Mood } enum Mood { calm }", "Mood would change"],
    [
      "a field's type",
      "type Query { version: Int, mood: Mood } enum Mood { calm keen }",
      "Query would change",
    ],
  ])("is not shared, and the reason names %s", (_, without, said) => {
    expect(() => assertSameApi(spec, full, buildSchema(without))).toThrow(
      expect.objectContaining({
        code: "BUILD_NOT_SHAREABLE",
        message: expect.stringMatching(`^function app.version is hidden; .* ${said}`),
      }),
    );
  });

  it("is shared where it is the same, in whatever order", () => {
    const other = buildSchema("enum Mood { keen calm } type Query { mood: Mood, version: String }");
    expect(() => assertSameApi(spec, full, other)).not.toThrow();
  });
});
