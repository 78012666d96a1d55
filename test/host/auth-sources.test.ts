import { randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  type AuthTenant,
  authTenant,
  dropRoles,
  newSecret,
  notesOf,
  notesQuery,
  withToken,
} from "../support/auth-tenants.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, schemaOf, type TenantDatabase } from "../support/host-tenants.ts";

const [old, fresh] = [newSecret(), newSecret()];

let database: TenantDatabase;
let acme: AuthTenant;
let globex: AuthTenant;

beforeAll(async () => {
  database = await createTenantDatabase("auth_sources");
  acme = await authTenant(database, "acme");
  globex = await authTenant(database, "globex");
  for (const { id, schemas, roles } of [acme, globex]) {
    await database.query("insert into rowhouse.tenant (id, schemas, roles, jwt) values ($1, $2, $3, $4)", [
      id,
      JSON.stringify(Object.entries(schemas).map(([logical, physical]) => ({ logical, physical }))),
      JSON.stringify(roles),
      JSON.stringify({ secret: old }),
    ]);
  }
  await database.change(
    "globex",
    `create table session (token uuid primary key, user_id integer not null);
     create function authenticate(token text) returns jsonb language sql stable security definer
     begin atomic
       select jsonb_build_object('claims', jsonb_build_object('user_id', s.user_id))
       from session s where s.token = authenticate.token::uuid;
     end;
     comment on function authenticate(text) is '@behavior -*';
     comment on table session is '@behavior -*'`,
  );
});

afterAll(async () => {
  await dropRoles(database);
  await database.drop();
});

const sign = (secret: string, aud: string): Promise<string> =>
  new SignJWT({ aud, user_id: 1 }).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(secret));

const start = (tenants: object, files: Record<string, string> = {}): Promise<TestHost> =>
  TestHost.start({
    config: { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling: true },
    files,
    connected: database.connected,
  });

describe("a tenant of the control table", () => {
  it("accepts new tokens as soon as its row says so, and no longer the old ones", async () => {
    const host = await start({ table: { database: "main" } });
    const [first, second] = [await sign(old, "acme"), await sign(fresh, "acme")];
    expect((await withToken(host, acme, first, notesQuery)).data).toEqual(notesOf(acme, 1));
    expect(await withToken(host, acme, second, notesQuery)).toMatchObject({
      status: 401,
      code: "TOKEN_INVALID",
    });
    expect(await withToken(host, globex, first, notesQuery)).toMatchObject({ status: 401 });

    await database.query("update rowhouse.tenant set jwt = $1 where id = 'acme'", [
      JSON.stringify({ secret: fresh }),
    ]);
    await vi.waitFor(
      async () => expect((await withToken(host, acme, second, notesQuery)).status).toBe(200),
      20_000,
    );
    expect(await withToken(host, acme, first, notesQuery)).toMatchObject({
      status: 401,
      code: "TOKEN_INVALID",
    });

    await database.query("update rowhouse.tenant set jwt = null, session = $1 where id = 'globex'", [
      JSON.stringify({ function: "app.authenticate" }),
    ]);
    const session = randomUUID();
    await database.query(`insert into ${schemaOf("globex")}.session values ($1, 2)`, [session]);
    await vi.waitFor(
      async () => expect((await withToken(host, globex, session, notesQuery)).status).toBe(200),
      20_000,
    );
    expect((await withToken(host, globex, session, notesQuery)).data).toEqual(notesOf(globex, 2));
    for (const token of [randomUUID(), "no-uuid", first]) {
      expect(await withToken(host, globex, token, notesQuery)).toMatchObject({
        status: 401,
        code: "TOKEN_INVALID",
      });
    }
    expect(await withToken(host, acme, session, notesQuery)).toMatchObject({ status: 401 });
    await host.stop();
    for (const secret of [old, fresh, session]) expect(host.process.output).not.toContain(secret);
  });

  it("that might accept others' tokens is not served, and the log says why", async () => {
    const shared = JSON.stringify({ secret: old, audience: "all of us" });
    await database.query("update rowhouse.tenant set jwt = $1 where id = 'acme'", [shared]);
    const host = await start({ table: { database: "main" } });
    expect(await host.graphql("acme", "{ whoami }")).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" });
    const warned = await host.process.line("config.warning", { path: "rowhouse.tenant[acme].jwt.audience" });
    expect(JSON.stringify(warned)).toContain("tenantClaim");
    await host.stop();
    expect(host.process.output).not.toContain(old);
  });
});

describe("a tenant of a module", () => {
  it("has its own token rules", async () => {
    const records = [acme, globex].map((tenant) => ({ ...tenant, jwt: { secret: old } }));
    const text = `const tenants = ${JSON.stringify(records)};
      export const resolve = (facts) => tenants.find(({ id }) => id === facts.header("x-tenant")) ?? null;`;
    const host = await start({ module: "./tenants.ts" }, { "tenants.ts": text });
    const token = await sign(old, "acme");
    for (let round = 0; round < 2; round += 1) {
      expect((await withToken(host, acme, token, notesQuery)).data).toEqual(notesOf(acme, 1));
      expect(await withToken(host, globex, token, notesQuery)).toMatchObject({
        status: 401,
        code: "TOKEN_INVALID",
      });
    }
    await host.stop();
  });
});

describe("listed tenants that might accept each other's tokens", () => {
  it("are a config fault, with the path of each", async () => {
    const jwt = { secret: old, audience: "all of us" };
    const failing = start([
      { ...acme, jwt },
      { ...globex, jwt },
    ]).catch((error: unknown) => String(error));
    const text = await failing;
    expect(text).toMatch(/tenants\[0\]\.jwt\.audience: acme would accept tokens of globex/);
    expect(text).toMatch(/tenants\[1\]\.jwt\.audience: globex would accept tokens of acme/);
    expect(text).not.toContain(old);
  });
});
