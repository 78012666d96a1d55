import { decodeJwt, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  type AuthTenant,
  authTenant,
  dropRoles,
  newSecret,
  notesOf,
  notesQuery,
  passwordOf,
  withToken,
} from "../support/auth-tenants.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

const secrets: Record<string, string> = { acme: newSecret(), globex: newSecret() };

let database: TenantDatabase;
let host: TestHost;
let tenants: AuthTenant[];

beforeAll(async () => {
  database = await createTenantDatabase("auth_login");
  tenants = [await authTenant(database, "acme"), await authTenant(database, "globex")];
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: tenants.map((tenant) => ({ ...tenant, jwt: { secret: secrets[tenant.id] } })),
      pooling: true,
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await dropRoles(database);
  await database.drop();
});

const login =
  "mutation ($user: Int!, $password: String!) { login(input: { userId: $user, password: $password }) { result } }";

async function signIn(id: string, user: number, password = passwordOf(id)): Promise<string> {
  return (await host.data(id, login, { user, password })).login.result;
}

describe("tenants that share an instance and sign with their own secrets", () => {
  it("do share the instance", async () => {
    await Promise.all(tenants.map(({ id }) => host.data(id, "{ whoami }")));
    const [acme, globex] = await Promise.all(tenants.map(({ id }) => host.adminJson(`/tenants/${id}`)));
    expect(acme).toMatchObject({ kind: "pooled", key: globex.key });
    expect(acme.key).toBe(globex.key);
  });

  it("sign each account in to its own rows, concurrently, and at no other tenant", async () => {
    const accounts = tenants.flatMap((tenant) => [1, 2, 3].map((user) => ({ tenant, user })));
    await Promise.all(
      [...accounts, ...accounts, ...accounts].map(async ({ tenant, user }) => {
        const token = await signIn(tenant.id, user);
        const own = await withToken(host, tenant, token, notesQuery);
        expect(own).toMatchObject({ status: 200, data: notesOf(tenant, user) });
        for (const other of tenants.filter((each) => each !== tenant)) {
          const answer = await withToken(host, other, token, notesQuery);
          expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
        }
      }),
    );
  });

  it("sign with their own secret only", async () => {
    for (const { id, roles } of tenants) {
      const token = await signIn(id, 1);
      expect(decodeJwt(token)).toMatchObject({ aud: id, role: roles.authenticated, user_id: 1 });
      for (const [name, secret] of Object.entries(secrets)) {
        const verifying = jwtVerify(token, Buffer.from(secret));
        if (name === id) await verifying;
        else await expect(verifying).rejects.toThrow(/signature/);
      }
    }
  });

  it("refuse a wrong password, or another tenant's", async () => {
    for (const password of ["", "wrong", "' or '1'='1", passwordOf("globex")]) {
      expect(await signIn("acme", 1, password)).toBeNull();
    }
    expect(await signIn("acme", 99)).toBeNull();
  });

  it("require a token for writes that the anonymous role may not make", async () => {
    const write = `mutation { signedNote(input: { body: "x" }) { result { ownerId } } }`;
    expect((await host.graphql("acme", write)).errors).toHaveLength(1);
    const token = await signIn("acme", 3);
    const [acme] = tenants;
    if (acme === undefined) throw new Error("no acme");
    expect((await withToken(host, acme, token, write)).data.signedNote.result).toEqual({ ownerId: 3 });
  });

  it("still sign and verify after the instance was built anew", async () => {
    const token = await signIn("globex", 2);
    const [, globex] = tenants;
    if (globex === undefined) throw new Error("no globex");
    await host.adminJson("/flush", {});
    expect((await withToken(host, globex, token, notesQuery)).data).toEqual(notesOf(globex, 2));
    expect(await signIn("acme", 1)).toMatch(/^eyJ/);
  });

  it("no longer share it once a table of one of them has another column", async () => {
    await database.change("acme", "alter table item add column only_here integer");
    await vi.waitFor(
      async () => {
        await Promise.all(tenants.map(({ id }) => host.data(id, "{ whoami }")));
        const views = await Promise.all(tenants.map(({ id }) => host.adminJson(`/tenants/${id}`)));
        expect(views[0].key).not.toBe(views[1].key);
      },
      { timeout: 20_000, interval: 100 },
    );
  });

  it("write no secret, token or password to the log or the status", async () => {
    const token = await signIn("acme", 2);
    const said = host.process.output + (await host.admin("/status")).text;
    for (const secret of [...Object.values(secrets), token, passwordOf("acme")])
      expect(said).not.toContain(secret);
  });
});
