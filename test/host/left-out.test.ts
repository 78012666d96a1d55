import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { leftOutPresetFile } from "../support/host-files.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

/** A call by its bare name would find `pg_catalog.version()`. */
const version = `create function :schema.version() returns text language sql stable
  begin atomic select label::text from item order by id limit 1; end;`;
const commented = (tag: string): string => `${version} comment on function :schema.version() is '${tag}';`;

/** Hidden by `pg_catalog.pg_group`, and referred to by a table of the API. */
const group = `create table :schema.pg_group (id integer primary key, label text);
  alter table part add group_id integer references :schema.pg_group; grant select on :schema.pg_group to :role;
  create function in_group(given :schema.pg_group) returns text language sql stable as 'select given.label';`;

/** Hidden by `pg_catalog.pg_lsn`. */
const size = `create type :schema.pg_lsn as enum ('small', 'large');
  create function size_of(id integer) returns :schema.pg_lsn language sql stable as $$ select 'large'::canary_SELF.pg_lsn $$;`;

const made: readonly (readonly [id: string, api: string | null, sql: string])[] = [
  ["plain", null, ""],
  ["shown", null, version],
  ["behavior", null, commented("@behavior -*")],
  ["likewise", null, commented("@behavior -*")],
  ["omitted", null, commented("@omit")],
  ["v4", "v4", commented("@omit")],
  ["v4part", "v4", commented("@omit filter")],
  ["restored", "restoring", commented("@behavior -*")],
  ["byhand", "calling", commented("@behavior -*")],
  ["bykit", "calling", `${commented("@behavior -*")} comment on table part is 'By the kit.'`],
  ["byresource", "calling", `${commented("@behavior -*")} comment on table part is 'By a resource.'`],
  ["committed", "calling", `${commented("@behavior -*")} comment on table part is 'After a commit.'`],
  ["table", null, `${group} comment on table :schema.pg_group is '@behavior -*'`],
  ["tablepart", null, `${group} comment on table :schema.pg_group is '@behavior -select'`],
  [
    "reference",
    null,
    `${group} comment on table :schema.pg_group is '@behavior -*'; comment on table part is '@foreignKey (item_id) references pg_group (id)'`,
  ],
  ["type", null, `${size} comment on function size_of is '@behavior -*'`],
  [
    "column",
    null,
    `${size} comment on type :schema.pg_lsn is '@behavior -*'; alter table part add size :schema.pg_lsn`,
  ],
  [
    "overloaded",
    null,
    `create function :schema.lower(given mood) returns text language sql as $$ select 'a' $$;
     create function :schema.lower(given label) returns text language sql as $$ select 'b' $$;`,
  ],
  [
    "later",
    null,
    "create function twice(n integer) returns integer language sql stable as 'select 2 * n'; comment on function twice is '@omit'",
  ],
];

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("left_out");
  const tenants: (TenantRecord & { api?: string })[] = [];
  for (const [id, api, sql] of made) {
    const tenant = await database.tenant(id, sql.replaceAll("canary_SELF", `canary_${id}`));
    tenants.push({ ...tenant, ...(api === null ? {} : { api }) });
  }
  const databases = { main: { url: database.hostUrl, install: false } };
  const config = { databases, tenants, pooling: true, preset: leftOutPresetFile };
  host = await TestHost.start({ config, connected: database.connected });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

const view = (id: string) => host.adminJson(`/tenants/${id}`);

async function queries(id: string): Promise<readonly string[]> {
  const { __type: type } = await host.data(id, '{ __type(name: "Query") { fields { name } } }');
  return type.fields.map((field: { name: string }) => field.name);
}

/** In the V4 preset `rowId` is `id`, and enum values are in capitals. */
async function itemsAnswered(id: string): Promise<unknown> {
  if (!id.startsWith("v4")) return host.data(id, itemsQuery);
  const { allItems } = await host.data(id, itemsQuery.replace("rowId", "rowId: id"));
  const nodes = allItems.nodes.map((node: { mood: string }) => ({ ...node, mood: node.mood.toLowerCase() }));
  return { allItems: { nodes } };
}

describe("a hidden object that the build proves not to be part of the API", () => {
  it.each([
    ["a function with @behavior -*", "behavior", "version"],
    ["a function with @omit in the V4 preset", "v4", "version"],
    ["a table with @behavior -* that another refers to", "table", "allPgGroups"],
    ["a type that only a function with @behavior -* returns", "type", "sizeOf"],
    ["functions of one name, without any tag", "overloaded", "lower"],
  ])("lets its tenant be pooled: %s", async (_what, id, field) => {
    expect(await queries(id)).not.toContain(field);
    expect(await itemsAnswered(id)).toEqual(itemsOf(id));
    const decided = await view(id);
    expect(decided).toMatchObject({ kind: "pooled", key: expect.stringMatching(/^bp:/) });
    expect(decided.hidden).toHaveLength(id === "overloaded" ? 2 : 1);
    expect(decided.reason).toBeUndefined();
  });

  it("is left out of one instance, shared by all tenants that leave it out, and of no other", async () => {
    expect(await host.data("behavior", itemsQuery)).toEqual(itemsOf("behavior"));
    expect(await host.data("likewise", itemsQuery)).toEqual(itemsOf("likewise"));
    expect(await host.data("shown", "{ version }")).toEqual({ version: "canary_shown one" });
    const ids = ["plain", "shown", "behavior", "likewise", "omitted"];
    const keys = await Promise.all(ids.map(async (id) => (await view(id)).key));
    expect(keys[2]).toBe(keys[3]);
    expect(new Set(keys).size).toBe(ids.length - 1);
    const builds = host.process.linesOf("build.done").filter(({ key }) => key === keys[2]);
    expect(builds).toHaveLength(1);
    // Whichever tenant comes first: the object left out is a different one in each tenant's schema.
    for (const id of ["likewise", "behavior"]) {
      expect(await host.adminJson("/evict", { key: keys[2] })).toEqual({ evicted: [keys[2]] });
      expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
      expect(await view(id)).toMatchObject({ kind: "pooled", key: keys[2] });
    }
  });
});

describe("a hidden object that is in the API", () => {
  const version = (id: string) => ({ version: `canary_${id} one` });
  it.each([
    ["without any tag", "shown", "{ version }", version("shown"), /@name version.*or leave it out/],
    [
      "despite its @omit, which Amber does not know",
      "omitted",
      "{ version }",
      version("omitted"),
      /PgV4Smart/,
    ],
    ["despite an @omit of something else", "v4part", "{ version }", version("v4part"), /@behavior -\*/],
    [
      "because a plugin brings it back",
      "restored",
      "{ version }",
      version("restored"),
      /the API still depends on it: without it, Query\.version would be gone.*plugin of the preset brings it back/,
    ],
    [
      "in part",
      "tablepart",
      "{ allParts(first: 1) { nodes { groupId } } }",
      { allParts: { nodes: [{ groupId: null }] } },
      /pg_group is not visible/,
    ],
    [
      "because a smart tag refers to it",
      "reference",
      "{ allParts(first: 1) { nodes { name } } }",
      { allParts: { nodes: [{ name: "canary_reference one part" }] } },
      /no schema can be built without it: Invalid @foreignKey/,
    ],
    [
      "because a column has its type",
      "column",
      "{ allParts(first: 1) { nodes { name } } }",
      { allParts: { nodes: [{ name: "canary_column one part" }] } },
      /pg_lsn is not visible/,
    ],
  ])(
    "has its tenant served by a dedicated instance, whose reason says so: %s",
    async (_, id, query, data, reason) => {
      expect(await host.data(id, query)).toEqual(data);
      expect(await itemsAnswered(id)).toEqual(itemsOf(id));
      expect(await view(id)).toMatchObject({ kind: "dedicated", reason: expect.stringMatching(reason) });
    },
  );

  it("that became hidden later moves its tenant out of the shared instance", async () => {
    expect(await host.data("later", "{ twice(n: 2) }")).toEqual({ twice: 4 });
    const before = await view("later");
    expect(before).toMatchObject({ kind: "pooled" });
    await database.execute(
      "create function public.twice(n bigint) returns bigint language sql stable as 'select 0::bigint'",
    );
    await vi.waitFor(async () => expect((await view("later")).hidden).toHaveLength(1), { timeout: 20_000 });
    expect(await host.data("later", "{ twice(n: 2) }")).toEqual({ twice: 4 });
    const after = await view("later");
    expect(after).toMatchObject({ kind: "dedicated", reason: expect.stringMatching(/app\.twice/) });
  });
});

describe("a plugin's SQL that names an object left out of the API", () => {
  it.each([
    ["byhand", "byHand"],
    ["bykit", "byKit"],
    ["byresource", "byResource"],
  ])(
    "is not sent by a pooled instance: the request runs again in a dedicated one (%s)",
    async (id, field) => {
      expect(await view(id)).toMatchObject({ kind: "pooled" });
      // Pooled as long as no SQL names it.
      expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
      expect(await host.data(id, `{ said: ${field} }`)).toEqual({ said: `canary_${id} one` });
      const decided = await view(id);
      expect(decided).toMatchObject({
        kind: "dedicated",
        reason: expect.stringMatching(/a plugin's SQL/),
      });
    },
  );

  it("is not sent by a request that has committed either, and that request is not run again", async () => {
    const mutation = 'mutation { createItem(input: { item: { label: "new" } }) { query { byHand } } }';
    const { status, data, code } = await host.graphql("committed", mutation);
    expect({ status, data, code }).toEqual({
      status: 200,
      data: { createItem: { query: { byHand: null } } },
      code: "SCHEMA_CHANGED",
    });
    expect(await host.data("committed", "{ allItems { totalCount } byHand }")).toEqual({
      allItems: { totalCount: 4 },
      byHand: "canary_committed one",
    });
    expect(await view("committed")).toMatchObject({ kind: "dedicated" });
  });
});
