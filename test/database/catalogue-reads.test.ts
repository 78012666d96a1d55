import { resolvePreset } from "graphile-config";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keptColumns } from "../../workers/instance/core-catalogue.ts";
import { knownPlugins, unknownPlugins } from "../../workers/instance/known-plugins.ts";
import { catalogueReads } from "../support/catalogue-reads.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { buildApi, inTenant, sharedSql, tenantSql, uniqueTenant } from "../support/shape-tenant.ts";
import { streetPresets } from "../support/street-presets.ts";

const acme = uniqueTenant("acme");
const presets = Object.entries(streetPresets);

/** Comments on everything that a build might read one of, and what PostgreSQL enforces. */
const moreSql = `
comment on schema :app is 'The shop.'; comment on index :app.orders_total is E'@enum\\n@name fast'; comment on policy seen on :app.orders is 'All.';
comment on constraint customers_name_check on :app.customers is E'@enum\\n@name filled';
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

/** What was read of rows whose kind matches, without the names of the methods by which it was reached. */
const readOf = (kind: RegExp): string[] =>
  [
    ...new Set(
      [...reads].flatMap((read) => {
        const [of = "", column = ""] = read.split(".");
        return kind.test(of) && !/^get|^_type$/.test(column) ? [column] : [];
      }),
    ),
  ].sort();

/** Columns with a value of the core catalogue's own: what the connecting role may do, whether there is a default, or nothing. */
const neutral: Readonly<Record<string, readonly string[]>> = {
  classes: ["relacl", "relowner"],
  attributes: ["attacl", "atthasdef", "attgenerated", "atttypmod"],
  types: ["typdefault", "typtypmod"],
  procs: ["proacl", "proowner"],
  roles: ["_id", "rolname", "rolsuper", "rolinherit"],
  indexes: ["indkey", "indpred", "indrelid"],
};

/** PgCodecsPlugin takes these from a domain and does nothing with them. */
const unused = ["types.typcollation", "types.typdefaultbin", "types.typndims"];

describe("builds with the presets in use", () => {
  it("read, among much else, columns, keys and comments", () => {
    expect(presets.length).toBeGreaterThanOrEqual(8);
    expect(readOf(/^attributes$/)).toEqual(expect.arrayContaining(["attname", "atttypid", "attnotnull"]));
    expect(readOf(/^constraints\(f\)$/)).toEqual(expect.arrayContaining(["conkey", "confkey", "conname"]));
    expect(readOf(/^indexes$/)).toEqual(["indkey", "indpred", "indrelid"]);
  });

  it("read no column that the core shape leaves out", () => {
    const kept = new Map<string, readonly string[]>(Object.entries(keptColumns));
    const leftOut = [...reads].filter((read) => {
      const [, list = "", column = ""] = /^(\w+)[^.]*\.(.+)$/.exec(read) ?? [];
      if (/^get|^_type$/.test(column) || list === "comment") return false;
      return ![...(kept.get(list) ?? []), ...(neutral[list] ?? [])].includes(column);
    });
    expect(leftOut.sort()).toEqual(unused);
  });

  it("read no comments but those of relations, their columns, types, functions and constraints; and of indexes, without effect", () => {
    const described = [...reads].filter((read) => read.startsWith("comment("));
    expect(described.sort()).toEqual(
      ["class", "constraint c", "constraint f", "constraint u", "index", "proc", "type"].map(
        (kind) => `comment(${kind}).description`,
      ),
    );
  });

  it("read of rows that the core shape leaves out only that they are there", () => {
    expect(readOf(/^(policies|auth_members|languages|am|database)$/)).toEqual([]);
    expect(
      readOf(/^constraints\([cxnt]\)$/).filter(
        (column) => !/^(_id|con(name|relid|type|noinherit))$/.test(column),
      ),
    ).toEqual([]);
    expect(
      readOf(/^classes\([iIS]\)$/).filter((column) => !/^(_id|rel(name|namespace|kind|type))$/.test(column)),
    ).toEqual([]);
  });

  it("have the same schema when they are shown only what the core shape covers", () => {
    expect(differing).toEqual([]);
  });
});

it("the plugins of these presets, at the versions that they have, are the known ones", () => {
  const plugins = presets
    .flatMap(([, extended]) => resolvePreset({ extends: [...extended] }).plugins)
    // A user's own.
    .filter(({ name }) => name !== "PrefixesPlugin");
  expect(unknownPlugins(plugins)).toEqual([]);
  expect([...new Set(plugins.map(({ name }) => name))].sort()).toEqual([...knownPlugins].sort());
});

it("a plugin of another version is not known", () => {
  const [own, newer] = [
    { name: "OwnPlugin", version: "1.0.0" },
    { name: "PgTablesPlugin", version: "6.0.0" },
  ];
  expect(unknownPlugins([own, newer])).toEqual(["OwnPlugin 1.0.0", "PgTablesPlugin 6.0.0"]);
});
