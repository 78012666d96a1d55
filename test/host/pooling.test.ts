import { getIntrospectionQuery } from "graphql";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

/** Operations that a pooled and a dedicated instance must answer alike, errors included. */
const operations = [
  getIntrospectionQuery(),
  itemsQuery,
  "{ allItems(orderBy: PRIMARY_KEY_DESC, first: 2) { totalCount nodes { label partsByItemId(condition: { itemId: 2 }) { nodes { name itemByItemId { rowId label } } } } } }",
  '{ nextMood(given: calm) sameLabel(given: "plain") itemsByMood(wanted: calm, first: 1) { nodes { id label } pageInfo { hasNextPage } } }',
  '{ sameLabel(given: "forbidden") }',
  "{ broken itemByRowId(rowId: 2) { label } }",
  "mutation { updateItemByRowId(input: { rowId: 1, itemPatch: { mood: calm } }) { item { rowId label mood } } }",
  'mutation { createItem(input: { item: { label: "forbidden" } }) { item { id } } }',
  "{ allItems { nodes { nosuch } } }",
];

/** Changes that give a tenant a shape of its own. */
const variants: Record<string, string> = {
  column: "alter table item add column weight integer",
  function: "drop function next_mood",
  label: "alter type mood add value 'wild'",
  comment: "comment on column item.label is 'Another word for it.'",
  grant: "revoke delete on item from :role",
};

/** What no build of the stock preset reads; PostgreSQL enforces it for each tenant. */
const drifts: Record<string, string> = {
  t7: "alter table item add constraint unlikely check (label <> 'unlikely')",
  t13: "create policy own on item for delete using (true); create index on item (lower(label))",
  t49: "comment on schema canary_t49 is 'The last.'; create type unused as enum ('a')",
};

const same = Array.from({ length: 50 }, (_, index) => `t${index}`);
const dedicated = ["t0", "t7", "t49"];

let database: TenantDatabase;
let host: TestHost;
let alone: TestHost;

async function startHosts(): Promise<void> {
  const tenants: TenantRecord[] = [];
  for (const id of [...same, ...Object.keys(variants)]) tenants.push(await database.tenant(id));
  for (const [id, sql] of Object.entries({ ...variants, ...drifts })) await database.change(id, sql);

  const shadows = await database.tenant(
    "relation",
    `create table :schema.pg_group (id integer primary key, label text);
     insert into :schema.pg_group values (1, 'canary_relation group'); grant select on :schema.pg_group to :role`,
  );
  const type = await database.tenant(
    "type",
    `create type :schema.pg_lsn as enum ('small', 'large');
     create table parcel (id integer primary key, size :schema.pg_lsn not null);
     insert into parcel values (1, 'large'); grant select on parcel to :role`,
  );
  const twice = await database.tenant("twice");
  await database.change(
    "twice",
    `create schema canary_twice_more; grant usage on schema canary_twice_more to :role;
     create table canary_twice_more.item (id integer primary key, label text);
     insert into canary_twice_more.item values (9, 'canary_twice more');
     grant select on canary_twice_more.item to :role`,
  );
  tenants.push(shadows, type, { ...twice, schemas: { ...twice.schemas, more: "canary_twice_more" } });

  const databases = { main: { url: database.hostUrl, install: false } };
  const { connected } = database;
  host = await TestHost.start({ config: { databases, tenants, pooling: true }, connected });
  alone = await TestHost.start({
    config: { databases, tenants: tenants.filter(({ id }) => dedicated.includes(id)), pooling: false },
    connected,
  });
}

beforeAll(async () => {
  database = await createTenantDatabase("pooling");
  await startHosts();
});

afterAll(async () => {
  await host.stop();
  await alone.stop();
  await database.drop();
});

describe("fifty tenants of one shape", () => {
  it("are served by one build and one instance, each with its own rows", async () => {
    const answers = await Promise.all(same.map((id) => host.data(id, itemsQuery)));
    expect(answers).toEqual(same.map(itemsOf));
    expect(await host.metric('builds_total{result="ok"}')).toBe(1);
    expect(host.process.linesOf("build.started")).toHaveLength(1);

    const { cells } = await host.adminJson("/status");
    const instances = cells.flatMap((cell: { instances: object[] }) => cell.instances);
    expect(instances).toEqual([expect.objectContaining({ kind: "pooled", tenants: 50, requests: 50 })]);
    expect(await host.metric('instances{kind="pooled"}')).toBe(1);
  });

  it("keep their own constraints, whichever of them the instance was built from", async () => {
    const create = 'mutation { createItem(input: { item: { label: "unlikely" } }) { item { label } } }';
    expect((await host.graphql("t7", create)).text).toContain("errors");
    expect((await host.graphql("t8", create)).text).not.toContain("errors");
  });

  it("get the same schema, rows, errors and changes as from dedicated instances", async () => {
    for (const id of dedicated) {
      for (const operation of operations) {
        const [shared, own] = [await host.graphql(id, operation), await alone.graphql(id, operation)];
        // Only the last of them is refused, so that real answers are compared.
        expect(own.status, own.text).toBe(operation === operations.at(-1) ? 400 : 200);
        expect({ status: shared.status, ...JSON.parse(shared.text) }).toEqual({
          status: own.status,
          ...JSON.parse(own.text),
        });
      }
      expect(await alone.adminJson(`/tenants/${id}`)).toMatchObject({
        kind: "dedicated",
        key: expect.stringMatching(`^tn:${id}:`),
        reason: "pooling is disabled",
      });
    }
    expect(await alone.metric('builds_total{result="ok"}')).toBe(dedicated.length);
    expect(await host.metric('builds_total{result="ok"}')).toBe(1);
  });
});

describe("a tenant with another", () => {
  it.each(Object.keys(variants))("%s has its own blueprint", async (id) => {
    const common = await host.adminJson("/tenants/t0");
    const view = await host.adminJson(`/tenants/${id}`);
    expect(view).toMatchObject({ id, kind: "pooled", schemas: { app: `canary_${id}` } });
    const keys = await Promise.all(
      ["t1", ...Object.keys(variants)].map(async (each) => (await host.adminJson(`/tenants/${each}`)).key),
    );
    expect(keys[0]).toBe(common.key);
    expect(keys.filter((key) => key === view.key)).toHaveLength(1);
    expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
  });

  it("shape is served its own API, and the others theirs", async () => {
    expect(await host.data("column", "{ itemByRowId(rowId: 1) { weight } }")).toEqual({
      itemByRowId: { weight: null },
    });
    expect(await host.graphql("t0", "{ itemByRowId(rowId: 1) { weight } }")).toMatchObject({ status: 400 });
    expect(await host.graphql("function", "{ nextMood(given: calm) }")).toMatchObject({ status: 400 });
    expect(await host.data("t0", "{ nextMood(given: calm) }")).toEqual({ nextMood: "keen" });
    expect(await host.data("label", "{ itemsByMood(wanted: wild) { nodes { rowId } } }")).toEqual({
      itemsByMood: { nodes: [] },
    });
    expect(await host.graphql("t0", "{ itemsByMood(wanted: wild) { nodes { rowId } } }")).toMatchObject({
      status: 400,
    });
  });
});

describe("a tenant that unqualified SQL would serve wrongly", () => {
  it.each([
    [
      "relation",
      "pg_group",
      "{ pgGroupByRowId(rowId: 1) { label } }",
      { pgGroupByRowId: { label: "canary_relation group" } },
    ],
    ["type", "pg_lsn", "{ parcelByRowId(rowId: 1) { size } }", { parcelByRowId: { size: "large" } }],
    [
      "twice",
      "item",
      "{ moreItemByRowId(rowId: 9) { label } }",
      { moreItemByRowId: { label: "canary_twice more" } },
    ],
  ])(
    "because of its %s %s is served by a dedicated instance, whose reason says so",
    async (id, object, query, answer) => {
      const view = await host.adminJson(`/tenants/${id}`);
      expect(view).toMatchObject({ kind: "dedicated", key: expect.stringMatching(`^tn:${id}:`) });
      expect(view.hidden).toEqual([expect.stringContaining(object)]);
      expect(view.reason).toContain(view.hidden[0]);
      expect(await host.data(id, query)).toEqual(answer);
      expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
      expect(await host.process.line("tenant.decided", { tenant: id })).toMatchObject({
        pooled: false,
        reason: view.reason,
      });
    },
  );
});
