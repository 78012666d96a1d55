import { SignJWT } from "jose";
import { escapeIdentifier as quote } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AuthTenant, authTenant, dropRoles, newSecret } from "../support/auth-tenants.ts";
import type { GraphqlAnswer } from "../support/exchanged.ts";
import { TestHost } from "../support/host.ts";
import { contextPresetFile } from "../support/host-files.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

const secret = newSecret();
let database: TenantDatabase;
let host: TestHost;
const tenants = new Map<string, AuthTenant>();
/** Selected by `way`: a preset without services, and one with its own service; `twin` shares the first one's instance. */
const ways: Readonly<Record<string, string>> = { plain: "context", twin: "context", served: "service" };

beforeAll(async () => {
  database = await createTenantDatabase("preset_settings");
  for (const id of Object.keys(ways)) tenants.set(id, await authTenant(database, id));
  // Rows that are visible only to a build with the preset's settings.
  await database.change(
    "served",
    `create table weekday (name text primary key);
     comment on table weekday is '@enum';
     insert into weekday values ('monday'), ('tuesday');
     alter table weekday enable row level security;
     create policy building on weekday using (current_setting('app.building', true) = 'yes');
     create table shift (id int primary key, weekday text not null references weekday);
     grant select on shift to :role;
     grant usage on schema :schema to ${quote(`${database.name}_host`)};
     grant select on weekday to ${quote(`${database.name}_host`)}`,
  );
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 1 } },
      tenants: [...tenants].map(([id, tenant]) => ({
        ...tenant,
        settings: { way: ways[id] ?? "" },
        jwt: { secret },
      })),
      pooling: true,
      preset: contextPresetFile,
      requestHeaders: ["x-settings", "x-service", "x-user-locale", "cookie:session", "cookie:Theme"],
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await dropRoles(database);
  await database.drop();
});

const bearer = async (id: string, user: number): Promise<Record<string, string>> => {
  const token = await new SignJWT({ aud: id, user_id: user })
    .setProtectedHeader({ alg: "HS256" })
    .sign(Buffer.from(secret));
  return { authorization: `Bearer ${token}` };
};

const ask = async (id: string, query: string, headers: Record<string, string> = {}): Promise<GraphqlAnswer> =>
  host.graphql(id, query, { headers: { "x-tenant": id, ...headers } });

// biome-ignore lint/suspicious/noExplicitAny: it is what the field says.
const seen = async (id: string, headers: Record<string, string>): Promise<any> => {
  const { data, errors } = await ask(id, "{ seen }", headers);
  expect(errors).toBeUndefined();
  return JSON.parse(data.seen);
};

const roleOf = (id: string, which: "anonymous" | "authenticated"): string =>
  tenants.get(id)?.roles[which] ?? "";

/** A setting that a session had before reads as an empty string. */
const unset = expect.toBeOneOf([null, ""]);

/** Where settings come from: `grafast.context`, or `pgSettings` of the preset's service. */
const sources = [
  { source: "grafast.context", id: "plain", header: "x-settings" },
  { source: "pgSettings of its service", id: "served", header: "x-service" },
] as const;

describe.each(sources)("settings that a preset makes in $source", ({ id, header }) => {
  const with_ = (given: unknown): Record<string, string> => ({ [header]: JSON.stringify(given) });

  it("are added to the claims of the request's token, which row-level security sees", async () => {
    const found = await seen(id, {
      ...(await bearer(id, 2)),
      ...with_({ "app.locale": "de", "app.count": 7 }),
    });
    expect(found).toMatchObject({
      role: roleOf(id, "authenticated"),
      path: `canary_${id}, public, pg_temp`,
      claim: "2",
      locale: "de",
      count: "7",
      notes: [`canary_${id} note of 2`],
    });
  });

  it.each([
    ["by the same name", { "jwt.claims.user_id": "3" }],
    ["by another case", { "JWT.Claims.USER_ID": "3", "jwt.CLAIMS.user_id": "1" }],
    ["by null", { "jwt.claims.user_id": null }],
    ["with a copy of the role", { "jwt.claims.user_id": "3", role: roleOf }],
  ])("do not override a claim of the token (%s)", async (_, given) => {
    const own = "role" in given ? { ...given, role: roleOf(id, "authenticated") } : given;
    const found = await seen(id, { ...(await bearer(id, 2)), ...with_(own) });
    expect(found).toMatchObject({
      claim: "2",
      notes: [`canary_${id} note of 2`],
      role: roleOf(id, "authenticated"),
    });
  });

  it("may identify the user of a request without a token, which runs in the anonymous role", async () => {
    expect(await seen(id, with_({ "jwt.claims.user_id": "1" }))).toMatchObject({
      role: roleOf(id, "anonymous"),
      claim: "1",
      notes: [`canary_${id} note of 1`],
    });
    // Nothing of it remains for the next request.
    expect(await seen(id, {})).toMatchObject({ claim: unset, notes: [] });
  });

  it.each([
    ["null", null],
    ["a string", "role"],
    ["a number", 7],
    ["a list", []],
    ["an empty object", {}],
  ])("add nothing if they are %s", async (_, given) => {
    const found = await seen(id, { ...(await bearer(id, 1)), ...with_(given) });
    expect(found).toMatchObject({ role: roleOf(id, "authenticated"), claim: "1" });
  });

  it.each([
    ["a NUL in a value", { "app.locale": "d\0e" }],
    ["a NUL in a name", { "app.loc\0ale": "de" }],
    ["an invalid name", { "'; drop table note; --": "de" }],
    ["no name", { "": "de" }],
    ["a prototype", JSON.parse('{"__proto__": "postgres"}')],
  ])("fail the request, and leave nothing behind, with %s", async (_, given) => {
    const { data, errors } = await ask(id, "{ seen }", { ...(await bearer(id, 1)), ...with_(given) });
    expect(data?.seen ?? null).toBeNull();
    expect(errors).toHaveLength(1);
    expect(await seen(id, await bearer(id, 1))).toMatchObject({ claim: "1", locale: unset });
  });
});

const reserved: readonly (readonly [name: string, valueFor: (own: string) => unknown])[] = [
  ["role", (own: string) => own.replace("_user_", "_admin_")],
  ["role", () => "postgres"],
  ["ROLE", () => "none"],
  ["Role", () => ""],
  ["role", () => ["postgres"]],
  ["Search_Path", () => "canary_twin"],
  ["search_path", (own: string) => own],
  ["SESSION_authorization", () => "postgres"],
  ["application_name", () => "mine"],
  ["seed", () => 0.5],
  ["client_encoding", () => "LATIN1"],
];

describe("settings that are the host's", () => {
  const given = (id: string, [name, valueFor]: (typeof reserved)[number]) => {
    return JSON.stringify({ "app.locale": "de", [name]: valueFor(roleOf(id, "authenticated")) });
  };

  it.each(reserved)("are refused in grafast.context, with the cure (%s)", async (...each) => {
    const headers = { ...(await bearer("plain", 1)), "x-settings": given("plain", each) };
    const answer = await ask("plain", "{ seen }", headers);
    expect({ status: answer.status, code: answer.code }).toEqual({ status: 500, code: "SETTING_RESERVED" });
    expect(answer.errors?.[0]?.message).toMatch(
      new RegExp(`^The setting ${each[0].toLowerCase()} is reserved for the host: remove it`),
    );
    expect(answer.data).toBeUndefined();
    // The next request on the same connection is not affected.
    expect(await seen("plain", {})).toMatchObject({
      role: roleOf("plain", "anonymous"),
      locale: unset,
      claim: unset,
    });
  });

  it.each(reserved)(
    "are left out of the pgSettings of the preset's service, with a warning (%s)",
    async (...each) => {
      const headers = { ...(await bearer("served", 1)), "x-service": given("served", each) };
      const found = await seen("served", headers);
      expect(found).toMatchObject({
        role: roleOf("served", "authenticated"),
        path: "canary_served, public, pg_temp",
        locale: "de",
        claim: "1",
      });
      expect(found.application).toMatch(/^rowhouse:/);
      const said = new RegExp(`${each[0].toLowerCase()} in the preset's pgSettings is ignored`);
      const line = (): object | undefined =>
        host.process
          .linesOf("cell.log")
          .find(({ level, detail }) => level === "warn" && said.test(String(detail)));
      expect(await host.process.until(line, 10_000)).toBeDefined();
    },
  );
});

describe("a plugin's own transaction", () => {
  it("accepts no role but the tenant's, however the setting's name is written", async () => {
    const as = async (given: object): Promise<GraphqlAnswer> =>
      host.graphql("plain", "query ($role: String!) { asRole(role: $role) }", {
        variables: { role: JSON.stringify(given) },
      });
    for (const given of [{ ROLE: "postgres" }, { role: roleOf("twin", "anonymous") }, { Role: "none" }]) {
      const { data, errors } = await as(given);
      expect(data).toEqual({ asRole: null });
      expect(errors?.[0]?.message).toMatch(/does not belong to this tenant/);
    }
    const { errors } = await as({ Search_Path: "canary_twin" });
    expect(errors?.[0]).toMatchObject({ extensions: { code: "SETTING_RESERVED" } });
  });
});

describe("a preset with its own service", () => {
  it("is built with its pgSettingsForIntrospection, and its tenants are dedicated", async () => {
    const { data } = await ask("served", '{ __type(name: "Weekday") { enumValues { name } } }');
    expect(data.__type.enumValues.map(({ name }: { name: string }) => name).sort()).toEqual([
      "monday",
      "tuesday",
    ]);
    expect(await host.adminJson("/tenants/served")).toMatchObject({
      kind: "dedicated",
      reason: expect.stringMatching(/pgSettingsForIntrospection/),
    });
    expect(await host.adminJson("/tenants/plain")).toMatchObject({ kind: "pooled" });
  });

  it("causes one warning that names everything that the host ignores", async () => {
    await ask("served", "{ seen }");
    await host.adminJson("/flush", {});
    for (const id of Object.keys(ways)) expect((await ask(id, "{ seen }")).status).toBe(200);
    const lines = host.process.linesOf("config.warning").filter(({ path }) => path === "preset");
    expect(lines).toHaveLength(1);
    const message = lines[0]?.["detail"];
    expect(lines[0]?.["level"]).toBe("warn");
    for (const name of [
      /grafserv\.websockets/,
      /pgServices\[0\]: connection string and pools/,
      /pgServices\[0\]\.schemas/,
      /pgServices\[0\]\.pgSubscriber/,
      /pgSettingsForIntrospection\.role/,
    ]) {
      expect(message).toMatch(name);
    }
    expect(message).not.toMatch(/nowhere\.invalid/);
  });
});

describe("headers of a request", () => {
  const headersOf = async (
    headers: Record<string, string>,
  ): Promise<Record<string, Record<string, string>>> => {
    const { data, errors } = await ask("plain", "{ headers }", headers);
    expect(errors).toBeUndefined();
    return JSON.parse(data.headers);
  };

  it("reach a preset only if the config names them", async () => {
    const found = await headersOf({
      ...(await bearer("plain", 1)),
      "X-User-Locale": "de-AT",
      "x-other": "canary of x-other",
      cookie: "a=1; session=s1=2; Theme=dark; theme=light; session=s1=2; admin=canary",
    });
    for (const headers of [found["tenantOf"], found["node"]]) {
      expect(headers).toMatchObject({ "x-user-locale": "de-AT", cookie: "session=s1=2; Theme=dark" });
      expect(Object.keys(headers ?? {})).not.toContain("x-other");
      expect(Object.keys(headers ?? {})).not.toContain("authorization");
    }
    expect((await headersOf({ cookie: "admin=canary; session" }))["tenantOf"]).not.toHaveProperty("cookie");
  });

  it("are part of the key of every value in a TenantCache", async () => {
    const greeting = async (headers: Record<string, string>): Promise<string> =>
      (await ask("plain", "{ greeting }", headers)).data.greeting;
    expect(await greeting({ "x-user-locale": "de" })).toBe("hello in de");
    expect(await greeting({ "x-user-locale": "fr" })).toBe("hello in fr");
    expect(await greeting({ "x-user-locale": "de", cookie: "session=1" })).toBe("hello in de");
    expect(await greeting({})).toBe("hello in undefined");
  });

  it("are listed in Vary", async () => {
    const { headers } = await ask("plain", "{ headers }");
    expect(headers["vary"]).toBe("x-settings, x-service, x-user-locale, cookie");
  });

  it.each([
    [
      "a named header that came twice",
      ["X-User-Locale: de", "x-user-locale: fr"],
      /More than one x-user-locale/,
    ],
    ["a named header that is too long", [`X-User-Locale: ${"d".repeat(4_097)}`], /longer than 4096/],
    ["a named cookie with two values", ["Cookie: session=1; session=2"], /session has two values/],
    ["a named cookie that is too long", [`Cookie: session=${"d".repeat(4_097)}`], /longer than 4096/],
    [
      "more than a cell accepts",
      [
        `X-Settings: ${"d".repeat(4_000)}`,
        `X-Service: ${"d".repeat(4_000)}`,
        `X-User-Locale: ${"d".repeat(4_000)}`,
      ],
      /too long/,
    ],
  ])("are refused with 400: %s", async (_, lines, why) => {
    const body = '{"query":"{__typename}"}';
    const head = ["POST /graphql HTTP/1.1", "Host: x", "X-Tenant: plain", "Connection: close", ...lines];
    const answer = await host.raw(
      [...head, "Content-Type: application/json", `Content-Length: ${body.length}`, "", body].join("\r\n"),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toMatch(why);
  });
});
