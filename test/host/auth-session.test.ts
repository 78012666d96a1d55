import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  type AuthTenant,
  authTenant,
  dropRoles,
  notesOf,
  notesQuery,
  withToken,
} from "../support/auth-tenants.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, schemaOf, type TenantDatabase } from "../support/host-tenants.ts";

/** None of it is served, and none of it names a tenant. */
const sessionSql = `
  create table session (token text primary key, user_id integer, role_name text);
  create function authenticate(token text) returns jsonb language sql stable security definer begin atomic
    select jsonb_strip_nulls(jsonb_build_object('role', s.role_name, 'claims', jsonb_build_object('user_id', s.user_id)))
    from session s where s.token = authenticate.token; end;
  create function raises(token text) returns jsonb language plpgsql stable as $$ begin raise exception 'not %', token; end $$;
  create function breaks(token text) returns jsonb language plpgsql stable as $$ begin return (select token from nowhere); end $$;
  create function babbles(token text) returns text language sql stable as $$ select token $$;
  create function hangs(token text) returns jsonb language plpgsql stable as $$ begin perform pg_sleep(60); return '{}'; end $$;
  comment on table session is '@behavior -*';
  comment on function authenticate(text) is '@behavior -*'; comment on function raises(text) is '@behavior -*';
  comment on function breaks(text) is '@behavior -*'; comment on function babbles(text) is '@behavior -*';
  comment on function hangs(text) is '@behavior -*'`;

let database: TenantDatabase;
let host: TestHost;
let acme: AuthTenant;
let globex: AuthTenant;
const tokens: string[] = [];

const named = (name: string): AuthTenant => ({ ...acme, id: name, hosts: [] });

async function session({ id }: AuthTenant, user: number | null, role: string | null = null): Promise<string> {
  const token = randomUUID();
  tokens.push(token);
  await database.query(`insert into ${schemaOf(id)}.session values ($1, $2, $3)`, [token, user, role]);
  return token;
}

beforeAll(async () => {
  database = await createTenantDatabase("auth_session");
  acme = await authTenant(database, "acme");
  globex = await authTenant(database, "globex");
  for (const { id } of [acme, globex]) await database.change(id, sessionSql);
  const odd = ["raises", "breaks", "babbles", "hangs", "missing"];
  const tenants = [
    ...[acme, globex].map((tenant) => ({ ...tenant, session: { function: "app.authenticate" } })),
    ...odd.map((name) => ({ ...named(name), session: { function: `app.${name}` } })),
  ];
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants,
      pooling: true,
    },
    env: { NODE_ENV: "production" },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await dropRoles(database);
  await database.drop();
});

describe("a token that a session function knows", () => {
  it("runs a request as its account, at its own tenant only", async () => {
    for (const [tenant, other] of [
      [acme, globex],
      [globex, acme],
    ] as const) {
      const token = await session(tenant, 2);
      for (let round = 0; round < 2; round += 1) {
        expect((await withToken(host, tenant, token, notesQuery)).data).toEqual(notesOf(tenant, 2));
        const answer = await withToken(host, other, token, notesQuery);
        expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
      }
    }
  });

  it("runs a request as one of the tenant's roles, and as no other", async () => {
    const admin = await session(acme, null, acme.roles.others[0] ?? "");
    expect((await withToken(host, acme, admin, "{ whoami }")).data).toEqual({ whoami: acme.roles.others[0] });
    for (const role of ["postgres", `${database.name}_host`, globex.roles.authenticated]) {
      const answer = await withToken(host, acme, await session(acme, 1, role), "{ whoami }");
      expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
    }
  });

  it("is refused within thirty seconds after it was revoked", async () => {
    const token = await session(acme, 1);
    expect((await withToken(host, acme, token, "{ whoami }")).status).toBe(200);
    await database.query("delete from canary_acme.session where token = $1", [token]);
    await vi.waitFor(
      async () => expect((await withToken(host, acme, token, "{ whoami }")).status).toBe(401),
      { timeout: 45_000, interval: 1_000 },
    );
  });
});

describe("a session function that", () => {
  it.each([
    ["raises", 401, "TOKEN_INVALID"],
    ["breaks", 500, "INTERNAL"],
    ["babbles", 500, "INTERNAL"],
    ["missing", 500, "INTERNAL"],
    ["hangs", 503, "TOKEN_UNVERIFIABLE"],
  ])("%s is answered with %s, without details", async (name, status, code) => {
    const token = `no-one-s-${name}-${randomUUID()}`;
    tokens.push(token);
    const waiting = withToken(host, named(name), token, "{ whoami }", "acme");
    // No other request waits for it.
    expect((await withToken(host, globex, await session(globex, 1), "{ whoami }")).status).toBe(200);
    const answer = await waiting;
    expect(answer).toMatchObject({ status, code, data: undefined });
    expect(answer.text).not.toMatch(/nowhere|SQLSTATE|canary|function/);
    expect((await host.graphql("acme", "{ whoami }", { headers: { "x-tenant": name } })).data).toEqual({
      whoami: acme.roles.anonymous,
    });
  });

  it("was called leaves no token in the log", () => {
    expect(host.process.output).toContain("TOKEN_INVALID");
    expect(tokens.length).toBeGreaterThan(10);
    for (const token of tokens) expect(host.process.output).not.toContain(token);
  });
});
