/** A database with the control schema, and tenants whose every schema, role and row carries their own mark. */
import { randomBytes } from "node:crypto";
import { escapeLiteral, escapeIdentifier as quote } from "pg";
import { expect, vi } from "vitest";
import { createDatabase, type TestDatabase } from "./database.ts";
import { TestHost } from "./host.ts";

/** A tenant as written in a config. */
export interface TenantRecord {
  readonly id: string;
  readonly hosts: readonly string[];
  readonly schemas: Record<string, string>;
  readonly roles: { readonly anonymous: string };
  readonly settings?: Record<string, string>;
}

export interface TenantDatabase extends TestDatabase {
  /** Connects as the host's role: no superuser, and inheriting nothing from the tenants' roles. */
  readonly hostUrl: string;
  readonly password: string;
  /** Creates a tenant. `more` is SQL that runs in its schema afterwards; `:role` and `:schema` in it are replaced by the tenant's. */
  tenant(id: string, more?: string): Promise<TenantRecord>;
  /** Runs SQL with a tenant's schema first in the search path. */
  change(id: string, sql: string): Promise<void>;
  /** Application names of the connected hosts and cells. */
  connected(): Promise<string[]>;
  /** Resolves when a request sleeps in PostgreSQL. */
  asleep(): Promise<void>;
}

/** The shape that tenants share. It contains no tenant's name; only rows do. */
const shape = `
create type mood as enum ('calm', 'keen');
create domain label as text check (value <> 'forbidden');
create table item (
  id integer generated always as identity primary key,
  label label not null,
  mood mood not null default 'calm'
);
create table part (
  id integer generated always as identity primary key,
  item_id integer not null references item,
  name label not null
);
create index on part (item_id);
comment on table item is 'What a tenant has.';
create function item_shout(item item) returns text language sql stable
  begin atomic select upper(item.label::text); end;
create function items_by_mood(wanted mood) returns setof item language sql stable
  begin atomic select * from item where mood = wanted; end;
create function next_mood(given mood) returns mood language sql stable
  begin atomic select case given when 'calm' then 'keen'::mood else 'calm'::mood end; end;
create function same_label(given label) returns label language sql stable
  begin atomic select given; end;
create function add_item(label label, mood mood) returns item language sql volatile
  begin atomic insert into item (label, mood) values (add_item.label, add_item.mood) returning *; end;
create function slow(seconds double precision) returns text language plpgsql stable as
  $$ begin perform pg_sleep(seconds); return (select label from item order by id limit 1); end $$;
create function broken() returns text language plpgsql stable as
  $$ begin raise exception 'broken for %', (select label from item order by id limit 1); end $$;
grant select, insert, update, delete on item, part to :role;
`;

export const itemsQuery = "{ allItems(orderBy: PRIMARY_KEY_ASC) { nodes { rowId label mood shout } } }";

export const schemaOf = (id: string): string => `canary_${id}`;

/** The expected answer to `itemsQuery` for a tenant whose items are unchanged. */
export const itemsOf = (id: string) => ({
  allItems: {
    nodes: ["one", "two", "three"].map((word, index) => ({
      rowId: index + 1,
      label: `canary_${id} ${word}`,
      mood: index % 2 === 0 ? "calm" : "keen",
      shout: `canary_${id} ${word}`.toUpperCase(),
    })),
  },
});

/** By default on the test run's server. */
export async function createTenantDatabase(name: string, clusterUrl?: string): Promise<TenantDatabase> {
  const database = await createDatabase(name, clusterUrl);
  const hostRole = `${database.name}_host`;
  const password = `secret_${randomBytes(9).toString("hex")}`;
  const roles: string[] = [hostRole];
  const roleOf = (id: string): string => `canary_${id}_${database.name}`;
  // Uses the public way to install the control schema: a host that is allowed to, once.
  const installer = await TestHost.start({
    config: { databases: { main: { url: database.url } }, tenants: [] },
  });
  await installer.stop();
  await database.execute(`
    create role ${quote(hostRole)} login noinherit password ${escapeLiteral(password)};
    revoke all on schema public from public;
    grant usage on schema rowhouse to ${quote(hostRole)};
    grant select on all tables in schema rowhouse to ${quote(hostRole)};
    grant execute on function rowhouse.tenant_lock_key to ${quote(hostRole)}`);

  const inSchema = (id: string, sql: string): string =>
    `set local search_path = ${quote(schemaOf(id))}, pg_temp; ${sql.replace(/:(role|schema)\b/g, (_, word) => quote(word === "role" ? roleOf(id) : schemaOf(id)))};
     reset search_path`;

  return {
    ...database,
    hostUrl: database.urlAs(hostRole, password),
    password,
    async tenant(id, more = "") {
      const [schema, role] = [schemaOf(id), roleOf(id)];
      roles.push(role);
      const parts = `insert into part (item_id, name) select id, label || ' part' from item`;
      await database.execute(`
        create role ${quote(role)} nologin;
        grant ${quote(role)} to ${quote(hostRole)} with inherit false, set true;
        create schema ${quote(schema)};
        grant usage on schema ${quote(schema)} to ${quote(role)};
        ${inSchema(
          id,
          `${shape}; ${more};
           insert into item (label, mood) select ${escapeLiteral(schema)} || ' ' || word, (enum_range(null::mood))[1 + (n + 1) % 2]
           from unnest(array['one', 'two', 'three']) with ordinality as word (word, n); ${parts}`,
        )}`);
      return { id, hosts: [`${id}.example`], schemas: { app: schema }, roles: { anonymous: role } };
    },
    change: (id, sql) => database.execute(inSchema(id, sql)),
    async connected() {
      const rows = await database.query(
        "select application_name as name from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}'",
      );
      return rows.map((row) => String(row["name"]));
    },
    asleep: () =>
      vi.waitFor(
        async () => {
          const sleeping = await database.query(
            "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
          );
          expect(sleeping).toHaveLength(1);
        },
        { timeout: 20_000, interval: 20 },
      ),
    async drop() {
      const names = roles.map(quote).join(", ");
      await database.execute(`drop owned by ${names} cascade; drop role ${names}`);
      await database.drop();
    },
  };
}
