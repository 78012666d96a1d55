/** Tenants with accounts, rows that only one account may see, and a login that returns a token. */
import { randomBytes } from "node:crypto";
import { escapeLiteral, escapeIdentifier as quote } from "pg";
import type { GraphqlAnswer } from "./exchanged.ts";
import type { TestHost } from "./host.ts";
import { schemaOf, type TenantDatabase, type TenantRecord } from "./host-tenants.ts";

export interface AuthTenant extends Omit<TenantRecord, "roles"> {
  readonly roles: {
    readonly anonymous: string;
    readonly authenticated: string;
    readonly others: readonly string[];
  };
}

/** The shape contains no tenant's name; only rows do. */
const shape = `
create table note (id integer primary key, owner_id integer not null, body text not null);
create table account (user_id integer primary key, role_name text not null, password text not null);
create function my_id() returns integer language sql stable
  begin atomic select nullif(current_setting('jwt.claims.user_id', true), '')::integer; end;
create function whoami() returns text language sql stable begin atomic select current_user::text; end;
create function claim(name text) returns text language sql stable
  begin atomic select current_setting('jwt.claims.' || claim.name, true); end;
create function backend() returns integer language sql stable begin atomic select pg_backend_pid(); end;
create function signed_note(body text) returns note language sql volatile security definer
  begin atomic insert into note select 1 + max(id), my_id(), signed_note.body from note returning *; end;
create type token as (role text, user_id integer, exp bigint);
comment on type token is E'@behavior -table jwt\\nWho is signed in.';
create function login(user_id integer, password text) returns token language sql volatile security definer
  begin atomic
    select row(a.role_name, a.user_id, extract(epoch from now() + interval '1 hour'))::token
    from account a where a.user_id = login.user_id and a.password = login.password;
  end;
revoke all on function signed_note, login from public;
grant execute on function login to :role;
alter table note enable row level security;
create policy own on note for select using (owner_id = my_id());
grant select on note to :role`;

export const passwordOf = (id: string): string => `password of canary_${id}`;

/** Roles of the tests' tenants other than the anonymous ones; `dropRoles` drops them. */
const roles = new Set<string>();

export async function authTenant(database: TenantDatabase, id: string): Promise<AuthTenant> {
  const record = await database.tenant(id, shape);
  const named = (what: string): string => `canary_${id}_${what}_${database.name}`;
  const [authenticated, admin] = [named("user"), named("admin")];
  for (const role of [authenticated, admin]) {
    roles.add(role);
    await database.execute(`
      create role ${quote(role)} nologin;
      grant ${quote(role)} to ${quote(`${database.name}_host`)} with inherit false, set true;
      grant usage on schema ${quote(schemaOf(id))} to ${quote(role)}`);
    await database.change(
      id,
      `grant select on item, note to ${quote(role)}; grant execute on function signed_note, login to ${quote(role)};
       grant insert on item to ${quote(role)}`,
    );
  }
  await database.change(
    id,
    `insert into note select n, n, ${escapeLiteral(schemaOf(id))} || ' note of ' || n from generate_series(1, 3) n;
     insert into account select n, ${escapeLiteral(authenticated)}, ${escapeLiteral(passwordOf(id))} from generate_series(1, 3) n`,
  );
  return { ...record, roles: { anonymous: record.roles.anonymous, authenticated, others: [admin] } };
}

export async function dropRoles(database: TenantDatabase): Promise<void> {
  const names = [...roles].map(quote).join(", ");
  if (names !== "") await database.execute(`drop owned by ${names} cascade; drop role ${names}`);
  roles.clear();
}

export const newSecret = (): string => randomBytes(24).toString("hex");

/** Sends a query as `tenant`, with a token. */
export const withToken = (
  host: TestHost,
  tenant: { readonly id: string },
  token: string,
  query: string,
  mark = tenant.id,
): Promise<GraphqlAnswer> =>
  host.graphql(mark, query, { headers: { "x-tenant": tenant.id, authorization: `Bearer ${token}` } });

export const notesQuery = "{ whoami allNotes { nodes { ownerId body } } }";

/** The expected answer to `notesQuery` for one account. */
export const notesOf = ({ id, roles: { authenticated } }: AuthTenant, user: number) => ({
  whoami: authenticated,
  allNotes: { nodes: [{ ownerId: user, body: `canary_${id} note of ${user}` }] },
});
