import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { tokenSigner } from "../../workers/request/token-signer.ts";
import {
  codeOf,
  facts,
  Identities,
  identities,
  seconds,
  secret,
  settingsOf,
  tenant,
  token,
} from "../support/tokens.ts";

describe("a request without a token", () => {
  it("runs as the anonymous role", async () => {
    expect(await identities.settings(tenant(), facts(null))).toEqual({ role: "acme_anonymous" });
  });

  it("has no settings if the tenant lists no roles, and is refused if it lists only others", async () => {
    expect(await identities.settings(tenant({ roles: {} }), facts(null))).toEqual({});
    const closed = tenant({ roles: { authenticated: "acme_user" } });
    expect(await codeOf(identities.settings(closed, facts(null)))).toBe("TOKEN_REQUIRED");
    expect(await identities.settings(closed, { ...facts(null), method: "OPTIONS" })).toEqual({});
  });
});

describe("the cached answer about a caller", () => {
  it("is the result of authentication, for the same record only", async () => {
    const [acme, header] = [tenant(), `Bearer ${await token({})}`];
    const own = new Identities({ sessions: () => expect.unreachable() });
    const settings = await own.settings(acme, facts(header));
    expect(settings).toMatchObject({ role: "acme_user" });
    expect(await own.settings(acme, facts(header))).toBe(settings);
    // Of another record of the same tenant nothing is known.
    expect(await own.settings(tenant(), facts(header))).not.toBe(settings);
    await own.close();
  });

  it("belongs to its own token, however many are checked at once", async () => {
    const [acme, first, second] = [tenant(), await token({ user_id: 1 }), await token({ user_id: 2 })];
    const asked = [first, second, first].map((each) => identities.settings(acme, facts(`Bearer ${each}`)));
    const users = (await Promise.all(asked)).map((settings) => settings["jwt.claims.user_id"]);
    expect(users).toEqual(["1", "2", "1"]);
    const again = await identities.settings(acme, facts(`Bearer ${second}`));
    expect(again).toMatchObject({ "jwt.claims.user_id": "2" });
  });

  it("is a refusal if authentication would refuse", async () => {
    const acme = tenant();
    const forged = facts(`Bearer ${await token({})}x`);
    const refusals = await Promise.allSettled([1, 2].map(() => identities.settings(acme, forged)));
    const again = await identities.settings(acme, forged).catch((error: unknown) => error);
    expect(refusals).toEqual([1, 2].map(() => ({ status: "rejected", reason: again })));
  });
});

describe("credentials that are no bearer token", () => {
  it.each([
    "Bearer",
    "Bearer ",
    "Basic eDp5",
    "",
    "Bearer a b",
    "Bearer a,b",
    "bearer\u00a0x",
    `Bearer ${"x".repeat(8_192)}`,
  ])("are refused (%j), never served as anonymous", async (header) => {
    expect(await codeOf(identities.settings(tenant(), facts(header)))).toBe("TOKEN_INVALID");
  });

  it("are refused by a tenant that accepts none, whatever they are", async () => {
    const header = `Bearer ${await token({})}`;
    expect(await codeOf(identities.settings(tenant({ jwt: null }), facts(header)))).toBe("TOKEN_INVALID");
  });
});

describe("a token's role", () => {
  it.each([
    ["the authenticated one where it names none", {}, "acme_user"],
    ["the one that it names", { role: "acme_admin" }, "acme_admin"],
    ["the anonymous one if it says so", { role: "acme_anonymous" }, "acme_anonymous"],
  ])("is %s", async (_, claims, role) => {
    expect(await settingsOf(tenant(), claims)).toMatchObject({ role });
  });

  it.each([
    "postgres",
    "ACME_USER",
    "acme_user\0",
    "none",
    "",
    7,
    ["acme_user"],
    { role: "acme_user" },
    true,
  ])("is refused if the tenant does not list it (%j)", async (role) => {
    expect(await codeOf(settingsOf(tenant(), { role }))).toBe("TOKEN_INVALID");
  });

  it("is read from the claim that the tenant configures, never from a prototype", async () => {
    const named = tenant({ jwt: { secret, roleClaim: "https://acme.example/role" } });
    const claims = { role: "postgres", "https://acme.example/role": "acme_admin" };
    expect(await settingsOf(named, claims)).toMatchObject({ role: "acme_admin" });
    const odd = tenant({ jwt: { secret, roleClaim: "constructor" } });
    expect(await settingsOf(odd, {})).toMatchObject({ role: "acme_user" });
  });

  it("must be given if the tenant has no authenticated role", async () => {
    const bare = tenant({ roles: { anonymous: "acme_anonymous" } });
    expect(await codeOf(settingsOf(bare, {}))).toBe("TOKEN_INVALID");
    expect(await settingsOf(tenant({ roles: {} }), { user_id: 1 })).not.toHaveProperty("role");
  });
});

describe("claims", () => {
  it("become settings of their own: texts unchanged, parts as JSON, nothing for missing values", async () => {
    const claims = { user_id: 7, name: "O'Brien", admin: false, tags: ["a", { b: 1 }], gone: null };
    const settings = await settingsOf(tenant(), claims);
    expect(settings).toEqual({
      role: "acme_user",
      "jwt.claims.aud": "acme",
      "jwt.claims.user_id": "7",
      "jwt.claims.name": "O'Brien",
      "jwt.claims.admin": "false",
      "jwt.claims.tags": '["a",{"b":1}]',
    });
  });

  it.each([
    "a-b",
    "a.b",
    "https://acme.example/x",
    "",
    " ",
    "a b",
    "1a",
    "é",
    "a'; drop schema x",
    "a\0b",
    "x".repeat(64),
  ])("with a name that no setting can have are left out (%j)", async (name) => {
    expect(Object.keys(await settingsOf(tenant(), { [name]: "x" }))).toEqual(["role", "jwt.claims.aud"]);
  });

  it("set only claims, whatever their names", async () => {
    const claims = { search_path: "x", session_authorization: "postgres", rowhouse: "x" };
    const settings = await settingsOf(tenant(), claims);
    expect(
      Object.keys(settings).filter((name) => name !== "role" && !name.startsWith("jwt.claims.")),
    ).toEqual([]);
  });

  it.each([
    ["a NUL", { a: "x\0y" }],
    ["half a character", { a: "\ud800" }],
    ["one name in two cases", { user_id: 1, User_ID: 2 }],
    ["65 of them", Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`c${n}`, n]))],
  ])("with %s are refused", async (_, claims) => {
    expect(await codeOf(settingsOf(tenant(), claims))).toBe("TOKEN_INVALID");
  });
});

describe("a token of another tenant", () => {
  it("is refused if the two tenants have different keys", async () => {
    const globex = tenant({ id: "globex", jwt: { secret: randomBytes(24).toString("hex") } });
    const header = facts(`Bearer ${await token({ aud: ["acme", "globex"] })}`);
    expect(await codeOf(identities.settings(tenant(), header))).toMatch(/^accepted/);
    expect(await codeOf(identities.settings(globex, header))).toBe("TOKEN_INVALID");
  });

  it("is refused if they share a key, because it names its tenant", async () => {
    const globex = tenant({ id: "globex" });
    expect(await codeOf(settingsOf(globex, {}))).toBe("TOKEN_INVALID");
    expect(await codeOf(settingsOf(globex, { aud: "globex" }))).toMatch(/^accepted/);
    expect(await codeOf(settingsOf(globex, { aud: undefined }))).toBe("TOKEN_INVALID");
    const jwt = { secret, audience: "https://api.example", tenantClaim: "org" };
    const [one, other] = [tenant({ jwt }), tenant({ id: "globex", jwt })];
    const claims = { aud: "https://api.example", org: "acme" };
    expect(await codeOf(settingsOf(one, claims))).toMatch(/^accepted/);
    for (const org of ["acme", undefined, ["globex"], "GLOBEX", null]) {
      expect(await codeOf(settingsOf(other, { ...claims, org }))).toBe("TOKEN_INVALID");
    }
  });

  it("is refused if this host signed it, even if its function wrote the other's claim into it", async () => {
    const rules = { secret, audience: "https://api.example" };
    const one = tenant({ jwt: { ...rules, tenantClaim: "tid" } });
    const other = tenant({ id: "globex", jwt: { ...rules, tenantClaim: "org" } });
    const sign = tokenSigner(one.id, identities.signing(one));
    const header = facts(`Bearer ${await sign({ user_id: 1, org: "globex", "rowhouse:tenant": "globex" })}`);
    expect(await identities.settings(one, header)).toMatchObject({ "jwt.claims.user_id": "1" });
    expect(await codeOf(identities.settings(other, header))).toBe("TOKEN_INVALID");
  });

  it("is refused by a tenant that has cached a token of the same text", async () => {
    const header = facts(`Bearer ${await token({})}`);
    const [acme, globex] = [tenant(), tenant({ id: "globex" })];
    for (let round = 0; round < 3; round += 1) {
      expect(await codeOf(identities.settings(acme, header))).toMatch(/^accepted/);
      expect(await codeOf(identities.settings(globex, header))).toBe("TOKEN_INVALID");
    }
  });
});

describe("the cached result of a token", () => {
  it("is not used for a changed record of the tenant", async () => {
    const header = facts(`Bearer ${await token({ role: "acme_admin" })}`);
    expect(await codeOf(identities.settings(tenant(), header))).toMatch(/^accepted/);
    const narrowed = tenant({ roles: { anonymous: "acme_anonymous", authenticated: "acme_user" } });
    expect(await codeOf(identities.settings(narrowed, header))).toBe("TOKEN_INVALID");
  });

  it("does not outlive the token", async () => {
    const clock = { nowMs: 1, now: () => clock.nowMs };
    const mine = new Identities({ sessions: () => Promise.reject() as never, clock });
    const acme = tenant({ jwt: { secret, clockTolerance: "2s" } });
    const text = await token({ exp: seconds(1) });
    const first = await mine.settings(acme, facts(`Bearer ${text}`));
    expect(await mine.settings(acme, facts(`Bearer ${text}`))).toBe(first);
    // Verified anew, and by the wall's clock still good.
    clock.nowMs += 3_001;
    expect(await mine.settings(acme, facts(`Bearer ${text}`))).not.toBe(first);
    await mine.close();
  });
});
