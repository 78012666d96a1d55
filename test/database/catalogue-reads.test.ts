import { resolvePreset } from "graphile-config";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { knownPlugins } from "../../workers/instance/known-plugins.ts";
import { catalogueReads } from "../support/catalogue-reads.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { buildApi, inTenant, sharedSql, tenantSql, uniqueTenant } from "../support/shape-tenant.ts";
import { streetPresets } from "../support/street-presets.ts";

const acme = uniqueTenant("acme");
const presets = Object.entries(streetPresets);

/** Comments on everything that a build might read one of, and what PostgreSQL enforces. */
const moreSql = `
comment on schema :app is 'The shop.'; comment on index :app.orders_total is 'Fast.'; comment on policy seen on :app.orders is 'All.';
comment on constraint customers_name_check on :app.customers is 'Not empty.';
comment on constraint customers_email_key on :app.customers is 'One each.';
comment on constraint orders_customer_fkey on :app.orders is 'Who ordered.';
comment on column :app.orders.total is 'With tax.'; comment on type :app.status is 'How far it went.';
comment on function :app.pay is 'Settles an order.';
create index on :app.orders (code, lower(note)); grant update (note), select on :app.orders to :editor;
revoke execute on function :app.touch from public; grant execute on function :app.pay to :anonymous;
alter function :app.pay security definer; alter table :app.orders alter note set default 'none';
alter table :crm.contacts alter constraint contacts_customer_fkey deferrable;
create type :app.unused as enum ('a'); create domain :app.spare as text;`;

let database: TestDatabase;
let client: Client;
const reads = new Set<string>();
const differing: string[] = [];

beforeAll(async () => {
  database = await createDatabase("catalogue_reads");
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query("begin");
  await client.query(sharedSql);
  await client.query(inTenant(acme, `${tenantSql}${moreSql}`));
  for (const [name, extended] of presets) {
    const recorded = [{ plugins: [catalogueReads(reads)] }, ...extended];
    const full = await buildApi(client, acme, { presets: recorded, run: false });
    const core = await buildApi(client, acme, { presets: extended, shape: "core", run: false });
    if (core.sdl !== full.sdl) differing.push(name);
  }
}, 600_000);

afterAll(async () => {
  await client.end();
  await database.drop();
});

/** What was read of rows whose kind matches, without the names of the methods by which it was come to. */
const readOf = (kind: RegExp): string[] =>
  [
    ...new Set(
      [...reads].flatMap((read) => {
        const [of = "", column = ""] = read.split(".");
        return kind.test(of) && !/^get|^_type$/.test(column) ? [column] : [];
      }),
    ),
  ].sort();

describe("builds with the presets in use", () => {
  it("read, among much else, columns, keys and comments", () => {
    expect(presets.length).toBeGreaterThanOrEqual(8);
    expect(readOf(/^attributes$/)).toEqual(expect.arrayContaining(["attname", "atttypid", "attnotnull"]));
    expect(readOf(/^constraints\(f\)$/)).toEqual(expect.arrayContaining(["conkey", "confkey", "conname"]));
    expect(readOf(/^comment\((class|type|proc|constraint [uf])\)$/)).toEqual(["description"]);
  });

  it.each([
    ["policies", /^policies$/, []],
    ["comments on schemas", /^comment\(namespace\)$/, []],
    ["indexes, but the columns and whether they are partial", /^indexes$/, ["indkey", "indpred", "indrelid"]],
  ])("read nothing of %s", (_, kind, columns) => {
    expect(readOf(kind)).toEqual(columns);
  });

  it.each([
    [
      "when constraints are checked, and what foreign keys do to rows",
      /^constraints/,
      /^(condefer|convalid|conislocal|conf\w+type|conbin)/,
    ],
    ["row-level security", /^classes/, /^rel(force)?rowsecurity$/],
    ["whose rights functions have, and their language", /^procs$/, /^(prosecdef|prolang|prosrc)$/],
    ["grants on schemas and types", /^(namespaces|types)$/, /acl$/],
  ])("do not read %s", (_, kind, column) => {
    expect(readOf(kind).filter((each) => column.test(each))).toEqual([]);
  });

  it("have the same schema where they are shown only what the core shape covers", () => {
    expect(differing).toEqual([]);
  });
});

it("the plugins of these presets are the known ones", () => {
  const names = presets.flatMap(([, extended]) =>
    resolvePreset({ extends: [...extended] }).plugins.map(({ name }) => name),
  );
  // A user's own.
  expect([...new Set(names)].filter((name) => name !== "PrefixesPlugin").sort()).toEqual(
    [...knownPlugins].sort(),
  );
});
