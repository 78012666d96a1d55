import { describe, expect, it } from "vitest";
import { isPlainHost, normaliseHost } from "../../src/tenants/host-name.ts";
import { listSource } from "../../src/tenants/list-source.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";
import { faultsOf, parseRecord as parse } from "../support/tenant-record.ts";

describe("a tenant's record", () => {
  it("is complete with an id and a schema", () => {
    expect(parse({})).toEqual({
      id: "acme",
      hosts: [],
      database: "main",
      api: null,
      mode: null,
      schemas: [{ logical: "app", physical: "app" }],
      sharedSchemas: ["public"],
      roles: { anonymous: null, authenticated: null, others: [] },
      settings: {},
      jwt: null,
      session: null,
      realtime: true,
    });
  });

  it("keeps schemas in the written order, in all three forms", () => {
    const bindings = [
      { logical: "z", physical: "acme_z" },
      { logical: "a", physical: "acme_a" },
    ];
    expect(parse({ schemas: { z: "acme_z", a: "acme_a" } }).schemas).toEqual(bindings);
    expect(parse({ schemas: bindings }).schemas).toEqual(bindings);
    expect(parse({ schemas: ["z", "a"] }).schemas.map(({ logical }) => logical)).toEqual(["z", "a"]);
  });

  it.each([
    ["no schema", { schemas: [] }, "schemas", /at least one/],
    ["no schema in an object", { schemas: {} }, "schemas", /at least one/],
    ["schemas as text", { schemas: "app" }, "schemas", /record/],
    ["a logical name twice", { schemas: [{ logical: "a", physical: "b" }, "a"] }, "schemas", /logical/],
    ["a physical schema twice", { schemas: { a: "x", b: "x" } }, "schemas", /physical/],
    ["an integer-like key", { schemas: { b: "x", 5: "y" } }, 'schemas["5"]', /array form/],
    ["a catalogue schema", { schemas: ["pg_catalog"] }, "schemas[0]", /reserved/],
    ["the information schema", { schemas: { app: "information_schema" } }, "schemas.app", /reserved/],
    ["the control schema", { schemas: ["rowhouse"] }, "schemas[0]", /reserved/],
    ["a name of 64 bytes", { schemas: ["ä".repeat(32)] }, "schemas[0]", /63 bytes/],
    ["an empty name", { schemas: [""] }, "schemas[0]", /63 bytes/],
    ["a NUL", { schemas: ["a\0b"] }, "schemas[0]", /NUL/],
    ["half a character", { schemas: ["a\ud800"] }, "schemas[0]", /NUL/],
    [
      "an unknown key in a binding",
      { schemas: [{ logical: "a", physical: "b", x: 1 }] },
      "schemas[0].x",
      /unknown/,
    ],
    ["an unknown key", { colour: "red" }, "colour", /unknown/],
    ["a bad id", { id: "a b" }, "id", /letters/],
    ["a host with a path", { hosts: ["acme.example/x"] }, "hosts[0]", /host/],
    ["a shared schema twice", { sharedSchemas: ["x", "x"] }, "sharedSchemas", /more than once/],
    ["a shared schema that is served", { sharedSchemas: ["app"] }, "sharedSchemas", /also in schemas/],
    ["the role none", { roles: { anonymous: "none" } }, "roles.anonymous", /not a role name/],
    ["an unknown database", { database: "nope" }, "database", /main, other/],
    ["a setting that is a number", { settings: { a: 1 } }, "settings.a", /string or a boolean/],
    [
      "the role public beside the two",
      { roles: { others: ["x", "public"] } },
      "roles.others[1]",
      /not a role name/,
    ],
    ["figures for live queries", { realtime: {} }, "realtime", /boolean/],
  ])("with %s is refused at its path", (_, record, path, message) => {
    expect(faultsOf(() => parse(record))).toEqual({ [path]: expect.stringMatching(message) });
  });

  it("may serve the schema that is shared by default", () => {
    expect(parse({ schemas: ["public"] }).sharedSchemas).toEqual([]);
  });

  it("needs a database if none is the obvious one", () => {
    const work = () => parseTenant({ id: "a", schemas: ["a"] }, { database: null, databases: ["x", "y"] });
    expect(faultsOf(work)).toEqual({ database: expect.stringMatching(/x, y/) });
  });

  it("names every fault at once", () => {
    const faults = faultsOf(() => parse({ id: "", hosts: ["a b"], schemas: [""], x: 1 }));
    expect(Object.keys(faults).sort()).toEqual(["hosts[0]", "id", "schemas[0]", "x"]);
  });
});

describe("a host", () => {
  it.each([
    ["ACME.Example", "acme.example"],
    ["acme.example:5678", "acme.example"],
    ["acme.example.", "acme.example"],
    ["acme.example.:80", "acme.example"],
    ["bücher.example", "xn--bcher-kva.example"],
    ["XN--BCHER-KVA.example", "xn--bcher-kva.example"],
    ["[::1]:5678", "[::1]"],
    ["[0:0::1]", "[::1]"],
    ["127.0.0.1:80", "127.0.0.1"],
    ["my_tenant.example", "my_tenant.example"],
  ])("%s is normalised to %s", (text, expected) => {
    expect(normaliseHost(text)).toBe(expected);
  });

  it.each([
    "",
    "a b",
    "a/b",
    "user@acme.example",
    "acme.example#",
    "acme.example?x",
    "%61cme.example",
    "a\\b",
    "acme..example",
    "acme.example..",
    ".",
    "::1",
    "acme.example:99999",
    "a,b",
    "*.example",
    `${"a".repeat(300)}.example`,
    "x".repeat(10_000),
  ])("%s is refused", (text) => {
    expect(normaliseHost(text)).toBeUndefined();
  });
});

describe("a host that is read without the URL parser", () => {
  const labels = [
    "a",
    "acme",
    "x1",
    "-a-",
    "a--b",
    "xn--a",
    "0",
    "0x1f",
    "255",
    "256",
    "01",
    "1.2.3.4",
    "10.0.0.256",
    "1.2",
    "",
  ];
  const ports = ["", ":", ":0", ":80", ":9999", ":59999", ":65535", ":65536", ":a"];
  const texts = labels.flatMap((first) =>
    labels.flatMap((second) => ports.map((port) => `${first}.${second}${port}`).concat(`${first}${second}`)),
  );

  it("is what the URL parser makes of it", () => {
    const plain = [...labels, ...texts].filter(isPlainHost);
    expect(plain).toContain("acme.x1:59999");
    expect(plain).toContain("1.2.3.4");
    for (const text of plain) expect(normaliseHost(text)).toBe(URL.parse(`http://${text}`)?.hostname);
  });

  it.each([
    "ACME",
    "acme.",
    "0x1f",
    "a.0x1f",
    "a.1",
    "01.2.3.4",
    "1.2.3.256",
    "xn--a.b",
    "a:65536",
    "a:",
    "a_b",
    `${"a".repeat(254)}`,
  ])("is not %s", (text) => {
    expect(isPlainHost(text)).toBe(false);
  });
});

describe("a list of tenants", () => {
  const acme = parse({ hosts: ["acme.example"] });
  const globex = parse({ id: "globex", hosts: ["globex.example"] });

  it("finds each by id and by host, and nobody else", async () => {
    const source = listSource([acme, globex]);
    expect(await source.byId("globex")).toBe(globex);
    expect(await source.byHost("acme.example")).toBe(acme);
    expect(await source.byId("constructor")).toBeNull();
    expect(await source.byHost("initech.example")).toBeNull();
    expect(source.known).toBe(2);
  });

  it("with one host claimed twice is refused, naming both", () => {
    const rival = parse({ id: "rival", hosts: ["ACME.example."] });
    expect(faultsOf(() => listSource([acme, globex, rival]))).toEqual({
      "tenants[2].hosts": expect.stringMatching(/acme and rival .*acme\.example/),
    });
  });

  it("with a duplicate id is refused", () => {
    expect(faultsOf(() => listSource([globex, parse({}), parse({})]))).toEqual({
      "tenants[2].id": expect.stringMatching(/tenants\[1\]/),
    });
  });
});
