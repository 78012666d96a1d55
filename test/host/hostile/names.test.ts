import { escapeLiteral, escapeIdentifier as quote } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../../support/host-tenants.ts";

/** Names of tenants' schemas and roles that could be mistaken for SQL. */
const names = [
  `a "quoted" one`,
  `an 'apostrophe`,
  `x"; drop schema public cascade; --`,
  "$$ dollars $1 $$",
  "two\nlines\r\n\tand a tab",
  "back\\slash\\' and \\x00",
  "a, comma, public",
  "%s %I %L {{7*7}} `id`",
  "UPPER lower ünïcödé 🔒",
  "/* a comment */ -- and another",
  "none",
  "  blanks  ",
  "select",
  "\u202ebackwards\u200b",
  "sixty-three bytes of a name, no more of which PostgreSQL keeps",
];
const ids = names.map((_, index) => `n${index}`);

let database: TenantDatabase;
let roles: string[];

beforeAll(async () => {
  database = await createTenantDatabase("names");
  const unique = database.name.slice(-6);
  const host = quote(new URL(database.hostUrl).username);
  roles = names.map((name) => `${[...name].slice(0, 40).join("")} ${unique}`);
  for (const [index, name] of names.entries()) {
    const [schema, role] = [quote(name), quote(roles[index] ?? "")];
    await database.execute(`
      create role ${role} nologin; grant ${role} to ${host} with inherit false, set true;
      create schema ${schema}; grant usage on schema ${schema} to ${role};
      create type ${schema}.mood as enum ('calm');
      create table ${schema}.item (id int primary key generated always as identity, label text not null, mood ${schema}.mood default 'calm');
      insert into ${schema}.item (label) values (${escapeLiteral(`canary_n${index}`)});
      grant select, insert on ${schema}.item to ${role};
      create function ${schema}.whoami() returns text language sql stable return current_user || ' ' || current_schema()`);
  }
});
afterAll(async () => {
  for (const role of roles)
    await database.execute(`drop owned by ${quote(role)} cascade; drop role ${quote(role)}`);
  await database.drop();
});

const state = () =>
  database.query(
    "select nspname as name, (select count(*)::int from pg_class where relnamespace = n.oid) as relations from pg_namespace n where nspname !~ '^pg_' order by 1",
  );

describe.each([true, false])("tenants with hostile names, with pooling %s", (pooling) => {
  it("are served their own rows and can write, like any other", async () => {
    const before = await state();
    const tenants = ids.map((id, index) => ({
      id,
      schemas: { app: names[index] },
      roles: { anonymous: roles[index] },
    }));
    const config = { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling };
    const host = await TestHost.start({ config, connected: database.connected });
    const keys = new Set<string>();
    for (const [index, id] of ids.entries()) {
      const items = "{ allItems(first: 1, orderBy: PRIMARY_KEY_ASC) { nodes { label mood } } whoami }";
      expect(await host.data(id, items)).toEqual({
        allItems: { nodes: [{ label: `canary_${id}`, mood: "calm" }] },
        whoami: `${roles[index]} ${names[index]}`,
      });
      const create = `mutation ($label: String!) { createItem(input: { item: { label: $label } }) { item { label } } }`;
      const label = `canary_${id} ${names[index]}`;
      expect(await host.data(id, create, { label })).toEqual({ createItem: { item: { label } } });
      keys.add((await host.adminJson(`/tenants/${id}`)).key);
    }
    expect(keys.size).toBe(pooling ? 1 : ids.length);
    const counts = await database.query(
      names
        .map(
          (name, index) =>
            `select count(*)::int as n from ${quote(name)}.item where label like 'canary_n${index} %'`,
        )
        .join(" union all "),
    );
    expect(counts).toEqual(names.map(() => ({ n: pooling ? 1 : 2 })));
    await host.stop();
    expect(await state()).toEqual(before);
  });
});
