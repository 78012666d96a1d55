import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { SessionDatabases } from "../../src/auth/session-databases.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { advisoryWaits, createDatabase, type TestDatabase } from "../support/database.ts";
import { anonymousOf, sessionGate, sessionSql, suffix, userOf } from "../support/session-functions.ts";
import { codeOf, facts, Identities } from "../support/tokens.ts";

const waitingTenants = ["ask_h1", "ask_h2", "ask_h3", "ask_h4"] as const;
const ids = ["ask_one", "ask_two", ...waitingTenants] as const;

let database: TestDatabase;
let sessions: SessionDatabases;
let identities: Identities;
const clock = { nowMs: 1, now: () => clock.nowMs };

const tenant = (id: string, name = "app.authenticate", more: object = {}): Tenant =>
  parseTenant(
    {
      id,
      schemas: { app: id },
      roles: { anonymous: anonymousOf(id), authenticated: userOf(id) },
      session: { function: name },
      ...more,
    },
    { database: "main", databases: ["main"] },
  );

const ask = (of: Tenant, token: string) => identities.settings(of, facts(`Bearer ${token}`));

const keep = (id: string, token: string, answer: object | null): Promise<unknown> =>
  database.query(
    `insert into ${id}.session values ($1, $2) on conflict (token) do update set answer = excluded.answer`,
    [token, answer === null ? null : JSON.stringify(answer)],
  );

/** How often a session function was called. */
let calls = 0;

beforeAll(async () => {
  database = await createDatabase("session");
  await database.execute(
    `set check_function_bodies = off; create role ask_host_${suffix} login noinherit password 'session'`,
  );
  for (const id of ids) await database.execute(sessionSql(id));
  await database.execute(`create schema shared;
    create function shared.authenticate(token text) returns jsonb language sql stable as $$ select jsonb_build_object('tenant', token, 'claims', jsonb_build_object('n', 1)) $$;
    create function shared.vague(token text) returns jsonb language sql stable as $$ select '{}'::jsonb $$;
    grant usage on schema shared to public`);
  const config = {
    url: database.urlAs(`ask_host_${suffix}`, "session"),
    listenUrl: "",
    poolSize: 1,
    poolReserve: 2,
    install: false,
  };
  sessions = new SessionDatabases({
    databases: { main: config },
    applicationName: "rowhouse:test",
    observe: () => {},
  });
});

beforeEach(() => {
  const counted = (name: string) => {
    calls += 1;
    return sessions.get(name);
  };
  identities = new Identities({ sessions: counted, clock });
});

afterAll(async () => {
  await sessions.close();
  const roles = [`ask_host_${suffix}`, ...ids.flatMap((id) => [anonymousOf(id), userOf(id)])].join(", ");
  await database.execute(`drop owned by ${roles} cascade; drop role ${roles}`);
  await database.drop();
});

describe("a session function", () => {
  it("returns role and claims for a known token, and refuses an unknown one with TOKEN_INVALID", async () => {
    await keep("ask_one", "known", { role: userOf("ask_one"), claims: { user_id: 7, tags: ["a"] } });
    expect(await ask(tenant("ask_one"), "known")).toEqual({
      role: userOf("ask_one"),
      "jwt.claims.user_id": "7",
      "jwt.claims.tags": '["a"]',
    });
    expect(await codeOf(ask(tenant("ask_one"), "unknown"))).toBe("TOKEN_INVALID");
  });

  it("is called for the request's tenant only, even if tenants have equal tokens", async () => {
    await keep("ask_one", "same", { claims: { whose: "one" } });
    await keep("ask_two", "same", { claims: { whose: "two" } });
    await keep("ask_one", "mine", { claims: { n: 1 } });
    const [one, two] = [tenant("ask_one"), tenant("ask_two")];
    for (let round = 0; round < 3; round += 1) {
      expect(await ask(one, "same")).toMatchObject({ role: userOf("ask_one"), "jwt.claims.whose": "one" });
      expect(await ask(two, "same")).toMatchObject({ role: userOf("ask_two"), "jwt.claims.whose": "two" });
      expect(await codeOf(ask(one, "mine"))).toMatch(/^accepted/);
      expect(await codeOf(ask(two, "mine"))).toBe("TOKEN_INVALID");
    }
  });

  it("runs as the anonymous role or the configured one, under the tenant's search path, and cannot write", async () => {
    const settings = await ask(tenant("ask_one", "app.whose"), "x");
    expect(settings).toMatchObject({
      "jwt.claims.who": anonymousOf("ask_one"),
      "jwt.claims.path": "ask_one, public, pg_temp",
      "jwt.claims.writes": "on",
    });
    await database.execute(`grant usage on schema ask_one to ${userOf("ask_one")}`);
    const named = { session: { function: "app.whose", role: userOf("ask_one") } };
    expect(await ask(tenant("ask_one", "", named), "x")).toMatchObject({
      "jwt.claims.who": userOf("ask_one"),
    });
    expect(await codeOf(ask(tenant("ask_one", "app.writes"), "x"))).toBe("INTERNAL");
    expect(await database.query("select from ask_one.call")).toEqual([]);
  });

  it("leaves nothing in the session for the next call", async () => {
    for (let round = 0; round < 12; round += 1) await ask(tenant("ask_one", "app.leaves"), `token${round}`);
    const next = await Promise.all(
      Array.from({ length: 6 }, (_, n) => ask(tenant("ask_two", "app.whose"), `x${n}`)),
    );
    for (const settings of next) {
      expect(settings).toMatchObject({ "jwt.claims.who": anonymousOf("ask_two"), "jwt.claims.left": "" });
    }
    expect(await database.query("select from pg_locks where locktype = 'advisory' and objid = 42")).toEqual(
      [],
    );
  });

  it("outside the tenant's own schemas must return the tenant", async () => {
    const one = tenant("ask_one", "shared.authenticate");
    expect(await codeOf(ask(one, "ask_one"))).toMatch(/^accepted/);
    expect(await codeOf(ask(one, "ask_two"))).toBe("TOKEN_INVALID");
    expect(await codeOf(ask(tenant("ask_one", "shared.vague"), "x"))).toBe("TOKEN_INVALID");
    await keep("ask_one", "others", { tenant: "ask_two", claims: { n: 1 } });
    expect(await codeOf(ask(tenant("ask_one"), "others"))).toBe("TOKEN_INVALID");
  });

  it.each([
    ["casts", "TOKEN_INVALID"],
    ["finds_no_row", "TOKEN_INVALID"],
    ["says_nothing", "TOKEN_INVALID"],
    ["raises", "TOKEN_INVALID"],
    ["denies", "TOKEN_INVALID"],
    ["breaks", "INTERNAL"],
    ["is_missing", "INTERNAL"],
    ["is_text", "INTERNAL"],
    ["is_many", "INTERNAL"],
    ["is_huge", "INTERNAL"],
  ])("that %s is %s, and the error does not contain the token", async (name, code) => {
    const token = "t0ken-of-nobody";
    const error = await ask(tenant("ask_one", `app.${name}`), token).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code });
    expect(
      `${error} ${JSON.stringify(error)} ${error instanceof Error ? `${error.stack} ${error.cause}` : ""}`,
    ).not.toContain(token);
  });

  it.each([
    ["a role that the tenant does not list", { role: "postgres" }, "TOKEN_INVALID"],
    ["another tenant's role", { role: userOf("ask_two") }, "TOKEN_INVALID"],
    ["a role that is not a string", { role: 7 }, "INTERNAL"],
    ["claims that are a list", { claims: ["x"] }, "INTERNAL"],
    ["a list", [1], "INTERNAL"],
    ["an expiry without a time zone", { expiresAt: "2100-01-01 00:00" }, "INTERNAL"],
    ["an expiry that is not a time", { expiresAt: "tomorrow Z" }, "INTERNAL"],
    ["a past expiry", { expiresAt: "2020-01-01T00:00:00+00:00" }, "TOKEN_EXPIRED"],
    ["a past expiry in seconds", { expiresAt: 1 }, "TOKEN_EXPIRED"],
    ["a future expiry", { expiresAt: "2100-01-01T00:00:00+02" }, /^accepted/],
    ["an expiry under another name", { claims: { n: 1 }, expires_at: 1 }, "INTERNAL"],
    ["nothing", {}, "TOKEN_INVALID"],
    ["nulls", { role: null, claims: null, expiresAt: null }, "TOKEN_INVALID"],
    [
      "claims that are all null",
      { tenant: "ask_one", claims: { user_id: null, name: null } },
      "TOKEN_INVALID",
    ],
    ["claims without a value", { claims: {} }, "TOKEN_INVALID"],
    ["a claim that is false", { claims: { admin: false } }, /^accepted/],
  ])("that returns %s is judged by the rules", async (what, answer, code) => {
    await keep("ask_one", what.replaceAll(" ", "-"), answer);
    expect(await codeOf(ask(tenant("ask_one"), what.replaceAll(" ", "-")))).toMatch(code);
  });

  it("that hangs is cancelled, and holds up no other tenant's", async () => {
    const one = tenant("ask_one", "app.hangs");
    const waiting = Array.from({ length: 4 }, (_, n) => codeOf(ask(one, `hang${n}`)));
    await keep("ask_two", "quick", { claims: { n: 1 } });
    expect(await codeOf(ask(tenant("ask_two"), "quick"))).toMatch(/^accepted/);
    const text = "select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    await expect.poll(() => database.query(text)).toHaveLength(2);
    expect(await Promise.all(waiting)).toEqual(Array.from({ length: 4 }, () => "TOKEN_UNVERIFIABLE"));
  });

  it("that hangs at several tenants holds up no other's, as each tenant's connections are limited", async () => {
    await database.query("select pg_advisory_lock($1)", [sessionGate]);
    const waiting = waitingTenants.flatMap((id) =>
      Array.from({ length: 4 }, (_, n) => codeOf(ask(tenant(id, "app.waits"), `${id}${n}`))),
    );
    await expect.poll(() => advisoryWaits(database)).toHaveLength(5);
    await keep("ask_two", "beside", { claims: { n: 1 } });
    expect(await codeOf(ask(tenant("ask_two"), "beside"))).toMatch(/^accepted/);
    // Nor does one that claims that PostgreSQL is out of connections: it is not believed.
    expect(await codeOf(ask(tenant("ask_one", "app.is_full"), "full"))).toBe("INTERNAL");
    await keep("ask_two", "behind", { claims: { n: 1 } });
    expect(await codeOf(ask(tenant("ask_two"), "behind"))).toMatch(/^accepted/);
    expect(await advisoryWaits(database)).toHaveLength(5);
    await database.query("select pg_advisory_unlock($1)", [sessionGate]);
    for (const code of await Promise.all(waiting)) expect(code).toMatch(/^accepted/);
  });
});

describe("a session function's answer", () => {
  it("is shared by concurrent requests, and cached for at most 30 seconds", async () => {
    const one = tenant("ask_one");
    await keep("ask_one", "kept", { claims: { n: 1 } });
    const before = calls;
    await Promise.all(Array.from({ length: 10 }, () => ask(one, "kept")));
    await ask(one, "kept");
    expect(calls).toBe(before + 1);
    // Revoked.
    await keep("ask_one", "kept", null);
    clock.nowMs += 29_999;
    expect(await codeOf(ask(one, "kept"))).toMatch(/^accepted/);
    clock.nowMs += 2;
    expect(await codeOf(ask(one, "kept"))).toBe("TOKEN_INVALID");
  });

  it("is not cached beyond its own expiry", async () => {
    const one = tenant("ask_one");
    await database.query(
      `insert into ask_one.session values ('short', jsonb_build_object('expiresAt', now() + interval '8 s'))`,
    );
    const before = calls;
    await ask(one, "short");
    clock.nowMs += 8_001;
    await ask(one, "short");
    expect(calls).toBe(before + 2);
  });

  it("is asked for again if the tenant's record has changed", async () => {
    await keep("ask_one", "roles", { role: userOf("ask_one") });
    expect(await codeOf(ask(tenant("ask_one"), "roles"))).toMatch(/^accepted/);
    const narrowed = tenant("ask_one", "app.authenticate", { roles: { anonymous: anonymousOf("ask_one") } });
    expect(await codeOf(ask(narrowed, "roles"))).toBe("TOKEN_INVALID");
    expect(await codeOf(ask(tenant("ask_one", "app.denies"), "roles"))).toBe("TOKEN_INVALID");
  });

  it("is cached for a second if it is a refusal", async () => {
    const one = tenant("ask_one");
    const before = calls;
    for (let round = 0; round < 5; round += 1) expect(await codeOf(ask(one, "never"))).toBe("TOKEN_INVALID");
    expect(calls).toBe(before + 1);
    await keep("ask_one", "never", { claims: { n: 1 } });
    clock.nowMs += 1_001;
    expect(await codeOf(ask(one, "never"))).toMatch(/^accepted/);
  });
});
