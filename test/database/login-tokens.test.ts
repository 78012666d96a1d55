import { decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TokenSigning } from "../../src/shared/model/token-signing.ts";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { presetUrl, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const tenants = ["login_one", "login_two"] as const;
const secretOf = (tenant: string): string => `secret of ${tenant}`.padEnd(40, "!");
const signingOf = (tenant: string, more: Partial<TokenSigning> = {}): TokenSigning => ({
  secret: secretOf(tenant),
  algorithm: "HS256",
  audience: tenant,
  issuer: null,
  tenantClaim: null,
  expiresInSeconds: 3_600,
  ...more,
});

/** One token type in the tenant's schema, marked by its comment; one in `public`; one that the preset names. */
const loginSql = (name: string): string => `
  create type ${name}.session as (role text, person_id int, exp bigint, aud text, iss text, org text);
  comment on type ${name}.session is E'@behavior -table jwt\\nA session.';
  create type ${name}.pass as (role text, big numeric);
  create function ${name}.login(who int, until bigint default null) returns ${name}.session language sql volatile
    security definer set search_path = ${name}, pg_temp as $$
      select ('${name}', id, until, 'somebody else', 'nobody', 'somebody else')::${name}.session from person where id = who $$;
  create function ${name}.login_shared(who int) returns public.shared_token language sql volatile security definer
    set search_path = ${name}, public, pg_temp as $$ select ('${name}', id)::public.shared_token from person where id = who $$;
  create function ${name}.my_session(who int) returns ${name}.session language sql stable as $$
    select (login_session.*)::${name}.session from (select '${name}', id, null::bigint, null, null, null from person where id = who) login_session $$;
  create function ${name}.person_session(p ${name}.person) returns ${name}.session language sql stable as $$
    select row('${name}', p.id, null::bigint, null, null, null)::${name}.session $$;
  create function ${name}.login_pass() returns ${name}.pass language sql volatile as $$ select ('${name}', 12345678901234567890)::${name}.pass $$;
`;

const amber = JSON.stringify(import.meta.resolve("postgraphile/presets/amber"));
const presetOf = (more: string): string =>
  presetUrl(`import { PostGraphileAmberPreset } from ${amber};
    export default { extends: [PostGraphileAmberPreset], ${more} };`);
const preset = presetOf(`gather: { pgJwtTypes: ["app.pass", "public.shared_token"] }`);

let database: TestDatabase;
let worker: Worker;
let serv: CellServ;

beforeAll(async () => {
  database = await createDatabase("login_tokens");
  await database.execute("create type public.shared_token as (role text, person_id int)");
  for (const tenant of tenants) await database.execute(workerTenantSql(tenant) + loginSql(tenant));
  worker = new Worker(database, { preset });
  serv = await worker.build("pooled", { app: tenants[0] });
});

afterAll(() => database.drop());

const roles = (tenant: string) => ({ tenant, roles: [tenant], settings: { role: tenant } });

async function tokenOf(tenant: string, field: string, signing = signingOf(tenant)): Promise<string> {
  const query = `mutation { ${field} }`;
  const { json } = await worker.ask(serv, { ...roles(tenant), query, signing });
  expect(json.errors).toBeUndefined();
  return json.data.token.result;
}

describe("a login function of a pooled instance", () => {
  it("returns a token signed with the secret of the request's tenant, which verifies with no other's", async () => {
    const tokens = await Promise.all(
      tenants.flatMap((tenant) =>
        Array.from({ length: 10 }, async (_, n) => ({
          tenant,
          person: 1 + (n % 5),
          token: await tokenOf(tenant, `token: login(input: { who: ${1 + (n % 5)} }) { result }`),
        })),
      ),
    );
    for (const { tenant, person, token } of tokens) {
      for (const other of tenants) {
        const verifying = jwtVerify(token, Buffer.from(secretOf(other)), { algorithms: ["HS256"] });
        if (other !== tenant) await expect(verifying).rejects.toThrow(/signature/);
        else expect((await verifying).payload).toMatchObject({ role: tenant, person_id: person });
      }
    }
  });

  it("signs for its own tenant, whatever audience, issuer and tenant the function returns", async () => {
    const signing = signingOf("login_one", { issuer: "rowhouse", tenantClaim: "org", algorithm: "HS384" });
    const field = 'token: login(input: { who: 1, until: "4102444800" }) { result }';
    const token = await tokenOf("login_one", field, { ...signing, secret: signing.secret.repeat(2) });
    expect(decodeProtectedHeader(token)).toEqual({ alg: "HS384", typ: "JWT" });
    expect(decodeJwt(token)).toEqual({
      "rowhouse:tenant": "login_one",
      role: "login_one",
      person_id: 1,
      aud: "login_one",
      iss: "rowhouse",
      org: "login_one",
      exp: 4_102_444_800,
      iat: expect.any(Number),
    });
  });

  it("uses the tenant's expiry if the function sets none", async () => {
    const { exp, iat } = decodeJwt(await tokenOf("login_one", "token: login(input: { who: 1 }) { result }"));
    expect((exp ?? 0) - (iat ?? 0)).toBe(3_600);
  });

  it("may return a type in public, or one that the preset names by its logical schema", async () => {
    for (const tenant of tenants) {
      const shared = decodeJwt(await tokenOf(tenant, "token: loginShared(input: { who: 2 }) { result }"));
      expect(shared).toMatchObject({ role: tenant, person_id: 2, aud: tenant });
      const pass = decodeJwt(await tokenOf(tenant, "token: loginPass(input: {}) { result }"));
      expect(pass).toMatchObject({ role: tenant, big: "12345678901234567890" });
    }
  });

  it("may be a query, or a field of a row", async () => {
    const signing = signingOf("login_two");
    const query = `{ mySession(who: 3) nobody: mySession(who: 99)
      allPeople(first: 2, orderBy: PRIMARY_KEY_ASC) { nodes { session } } }`;
    const { json } = await worker.ask(serv, { ...roles("login_two"), query, signing });
    expect(json.errors).toBeUndefined();
    const { mySession, nobody, allPeople } = json.data;
    expect(nobody).toBeNull();
    const tokens = [mySession, ...allPeople.nodes.map((each: { session: string }) => each.session)];
    expect(tokens.map((token) => decodeJwt(token)["person_id"])).toEqual([3, 1, 2]);
    for (const token of tokens) await jwtVerify(token, Buffer.from(secretOf("login_two")));
  });

  it("returns null if the function returns null", async () => {
    expect(await tokenOf("login_one", "token: login(input: { who: 99 }) { result }")).toBeNull();
    expect(await tokenOf("login_one", "token: loginShared(input: { who: 99 }) { result }")).toBeNull();
  });

  it("fails with TOKEN_UNSIGNED if the tenant has no secret, and signs with nobody else's", async () => {
    const query = "mutation { login(input: { who: 1 }) { result } }";
    const { json, text } = await worker.ask(serv, { ...roles("login_two"), query });
    expect(json.errors[0]).toMatchObject({ extensions: { code: "TOKEN_UNSIGNED" } });
    expect(text).not.toContain("eyJ");
  });

  it("refuses an expiry that is not a valid time", async () => {
    const query = 'mutation { login(input: { who: 1, until: "-5" }) { result } }';
    const { json } = await worker.ask(serv, {
      ...roles("login_one"),
      query,
      signing: signingOf("login_one"),
    });
    expect(json.errors[0].message).toMatch(/seconds since 1970/);
    expect(json.data?.login?.result ?? null).toBeNull();
  });
});

describe("a request", () => {
  it("signs nothing once it is over, and its secret cannot be read from it", async () => {
    const scope = worker.scope({ ...roles("login_one"), signing: signingOf("login_one") });
    expect(await scope.sign({ role: "login_one" })).toMatch(/^eyJ/);
    expect(JSON.stringify({ ...scope, settings: null })).not.toContain("secret of");
    scope.close();
    await expect(scope.sign({ role: "login_one" })).rejects.toMatchObject({ code: "INTERNAL" });
  });
});

it("a preset that disables PostGraphile's token plugin gets composite types instead", async () => {
  const without = presetOf(`gather: { pgJwtTypes: ["app.pass"] }, disablePlugins: ["PgJWTPlugin"]`);
  const instance = await new Worker(database, { preset: without }).build("pooled", { app: tenants[0] });
  const schema = await instance.getSchema();
  expect(schema?.getType("Pass")?.toConfig()).toHaveProperty("fields");
});

describe("a preset with a secret of its own", () => {
  it.each(['pgJwtSecret: "one for all"', "pgJwtSignOptions: {}"])("is refused (%s)", async (option) => {
    const other = new Worker(database, { preset: presetOf(`schema: { ${option} }`) });
    await expect(other.build("pooled", { app: tenants[0] })).rejects.toThrow(/all tenants would share/);
  });
});
