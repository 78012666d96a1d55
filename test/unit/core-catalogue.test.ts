import { describe, expect, it } from "vitest";
import { coreCatalogue } from "../../workers/instance/core-catalogue.ts";

type Row = Readonly<Record<string, unknown>>;

const roles = [
  { _id: "1", rolname: "host", rolsuper: false },
  { _id: "2", rolname: "staff", rolsuper: false },
  { _id: "3", rolname: 'odd "name"', rolsuper: false },
  { _id: "4", rolname: "root", rolsuper: true },
];

const introspection = {
  current_user: "host",
  catalog_by_oid: { "1259": "pg_class", "2606": "pg_constraint", "2615": "pg_namespace" },
  roles,
  auth_members: [{ member: "1", roleid: "2" }],
  namespaces: [{ _id: "10", nspname: "app", nspacl: ["host=U/host"] }],
  classes: [],
  attributes: [],
  types: [],
  procs: [],
  constraints: [],
  ranges: [],
  enums: [],
  inherits: [],
  extensions: [],
  indexes: [],
  policies: [{ polname: "seen" }],
  descriptions: [],
  depends: [],
};

function coreOf(part: Readonly<Record<string, unknown>>): Readonly<Record<string, readonly Row[]>> {
  return JSON.parse(coreCatalogue(JSON.stringify({ ...introspection, ...part })));
}

const relation = (relacl: readonly string[] | null, relowner = "2"): Row => ({
  _id: "20",
  relkind: "r",
  relowner,
  relacl,
});

describe("of privileges the core catalogue keeps", () => {
  it.each([
    ["those of the connecting role", ["host=r/staff"], '"host"=r/"host"'],
    ["those of a role that it is a member of", ["staff=arwd/staff"], '"host"=rawd/"host"'],
    ["those of everybody", ["=r/staff"], '"host"=r/"host"'],
    ["no others", ['"odd ""name"""=arwd/staff', "root=r/staff"], undefined],
    ["not whether they may be passed on", ["host=r*w/staff", "=r/staff"], '"host"=rw/"host"'],
    ["not what nobody asks for", ["host=rDxtm/staff"], '"host"=r/"host"'],
    ["all that its own role has by default", null, '"host"=rawd/"host"'],
  ])("%s", (_, relacl, expected) => {
    const [row] = coreOf({ classes: [relation(relacl)] })["classes"] ?? [];
    expect(row?.["relacl"]).toEqual(expected === undefined ? [] : [expected]);
  });

  it("all for a superuser, and for an owner without an entry, as pg-introspection does", () => {
    const asRoot = { auth_members: [{ member: "1", roleid: "4" }], classes: [relation([])] };
    const asOwner = { classes: [relation(["=r/host"], "1")] };
    for (const part of [asRoot, asOwner]) {
      expect(coreOf(part)["classes"]?.[0]?.["relacl"]).toEqual(['"host"=rawd/"host"']);
    }
  });

  it.each([
    [null, null],
    [["=X/staff"], null],
    [["host=X/staff"], null],
    [['"odd ""name"""=X/staff'], []],
  ])("whether a function may be executed: %j becomes %j", (proacl, expected) => {
    expect(coreOf({ procs: [{ _id: "30", proowner: "2", proacl }] })["procs"]?.[0]?.["proacl"]).toEqual(
      expected,
    );
  });

  it("none that it does not understand", () => {
    expect(() => coreOf({ classes: [relation(["host"])] })).toThrow("not understood");
  });
});

describe("the core catalogue", () => {
  it("has neither policies nor what else PostgreSQL alone enforces, nor comments on it", () => {
    const constraint = (_id: string, contype: string): Row => ({
      _id,
      contype,
      conkey: [1],
      confdeltype: "c",
    });
    const core = coreOf({
      constraints: [
        constraint("40", "f"),
        constraint("41", "c"),
        constraint("42", "x"),
        constraint("43", "n"),
      ],
      descriptions: ["40", "41"].map((objoid) => ({ classoid: "2606", objoid })),
    });
    expect(core["policies"]).toEqual([]);
    expect(core["constraints"]).toEqual([{ _id: "40", contype: "f", conkey: [1] }]);
    expect(core["descriptions"]?.map(({ objoid }) => objoid)).toEqual(["40"]);
  });

  it("has no columns but those that it is known to have", () => {
    const [row] =
      coreOf({ procs: [{ _id: "30", proname: "f", proowner: "2", proacl: null, prosrc: "…" }] })["procs"] ??
      [];
    expect(row).toEqual({ _id: "30", proname: "f", proowner: "0", proacl: null });
  });

  it("makes nobody the owner, since pg-introspection has an owner without an entry do anything", () => {
    const [row] = coreOf({ classes: [relation(["host=D/host"], "1")] })["classes"] ?? [];
    expect(row).toMatchObject({ relowner: "0", relacl: [] });
  });

  it("keeps a comment only of its own kind of object, since oids of two kinds may be equal", () => {
    const descriptions = ["1259", "2615"].map((classoid) => ({ classoid, objoid: "20" }));
    const core = coreOf({ classes: [relation(null)], descriptions });
    expect(core["descriptions"]).toEqual([{ classoid: "1259", objoid: "20" }]);
  });

  it("has one row for each set of columns that an index covers, and no names of indexes", () => {
    const index = (indexrelid: string, indkey: readonly number[], indpred: string | null = null): Row => ({
      indexrelid,
      indrelid: "20",
      indkey,
      indpred,
      indisunique: true,
    });
    const core = coreOf({
      classes: [relation(null), { _id: "51", relkind: "i" }],
      indexes: [
        index("51", [2, 1]),
        index("52", [1, 2]),
        index("53", [3], "…"),
        index("54", [0]),
        index("55", [0, 3]),
      ],
    });
    expect(core["classes"]).toHaveLength(1);
    expect(core["indexes"]?.map(({ indkey }) => indkey)).toEqual([[1, 2], [3]]);
    expect(core["indexes"]?.[0]).not.toHaveProperty("indisunique");
  });
});
