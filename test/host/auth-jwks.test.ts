import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  type AuthTenant,
  authTenant,
  dropRoles,
  notesOf,
  notesQuery,
  withToken,
} from "../support/auth-tenants.ts";
import type { GraphqlAnswer } from "../support/exchanged.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";
import { type KeyServer, keyServer, keySet, signedBy, signingKey } from "../support/key-server.ts";

let database: TenantDatabase;
let server: KeyServer;
let elsewhere: KeyServer;
let host: TestHost;
let acme: AuthTenant;

const [first, second] = [signingKey("first"), signingKey("second")];

/** Each is acme under another name, with its own key set. */
const names = [
  "fine",
  "shared",
  "down",
  "broken",
  "slow",
  "huge",
  "moved",
  "garbage",
  "empty",
  "rotates",
  "gone",
  "crowded",
] as const;
type Name = (typeof names)[number];

beforeAll(async () => {
  server = await keyServer();
  elsewhere = await keyServer();
  const { answers } = server;
  answers.set("/fine", keySet(first));
  answers.set("/rotates", keySet(first));
  answers.set("/broken", (response) => response.writeHead(500).end("no"));
  answers.set("/slow", (response) => void response.writeHead(200).write('{"keys":['));
  answers.set("/huge", (response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ keys: [first.jwk], more: "x".repeat(400_000) }));
  });
  answers.set("/moved", (response) => response.writeHead(302, { location: `${elsewhere.url}/keys` }).end());
  elsewhere.answers.set("/keys", keySet(first));
  answers.set("/garbage", (response) => response.writeHead(200).end("<html>"));
  answers.set("/empty", (response) => response.writeHead(200).end('{"keys":{}}'));
  answers.set("/crowded", keySet(first, second));

  const closed = await keyServer();
  await closed.close();
  database = await createTenantDatabase("auth_jwks");
  acme = await authTenant(database, "acme");
  const urlOf = (name: Name): string => {
    if (name === "down") return `${closed.url}/keys`;
    return `${server.url}/${name === "shared" ? "fine" : name}`;
  };
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: names.map((id) => ({ ...acme, id, hosts: [], jwt: { jwksUrl: urlOf(id) } })),
      pooling: true,
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await server.close();
  await elsewhere.close();
  await dropRoles(database);
  await database.drop();
});

const ask = (id: Name, token: string): Promise<GraphqlAnswer> =>
  withToken(host, { id }, token, notesQuery, "acme");
const claims = (id: Name, more: object = {}) => ({ aud: id, user_id: 1, ...more });

describe("a token of an identity provider", () => {
  it("is verified by the key that it names, which is fetched once", async () => {
    const answers = await Promise.all(
      [1, 2, 3].map(async (user) => ask("fine", await signedBy(first, claims("fine", { user_id: user })))),
    );
    expect(answers.map(({ data }) => data)).toEqual([1, 2, 3].map((user) => notesOf(acme, user)));
    expect(server.asked.get("/fine")).toBe(1);
  });

  it("is valid for one tenant only, even if two share a provider", async () => {
    const token = await signedBy(first, claims("fine"));
    expect((await ask("fine", token)).status).toBe(200);
    expect(await ask("shared", token)).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
    expect((await ask("shared", await signedBy(first, claims("shared")))).status).toBe(200);
    expect(server.asked.get("/fine")).toBe(1);
  });

  it("that names unknown keys is refused, and does not have the key set fetched again each time", async () => {
    const odd = [
      "../first",
      "first\n",
      "' or '1'='1",
      "__proto__",
      "x".repeat(2_000),
      `${server.url}/rotates`,
    ];
    for (const kid of [...odd, ...Array.from({ length: 40 }, (_, n) => `k${n}`)]) {
      const answer = await ask("fine", await signedBy({ ...second, kid }, claims("fine")));
      expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
    }
    const forged = await signedBy({ ...second, kid: "first" }, claims("fine"));
    expect(await ask("fine", forged)).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
    // Once at first, and again only after each cool-down that passed meanwhile.
    expect(server.asked.get("/fine")).toBeLessThanOrEqual(3);
  });

  it("may name its key if the set has several", async () => {
    expect((await ask("crowded", await signedBy(second, claims("crowded")))).status).toBe(200);
  });

  it("is accepted with a provider's new key, and refused once its old key is gone", async () => {
    expect((await ask("rotates", await signedBy(first, claims("rotates")))).status).toBe(200);
    server.answers.set("/rotates", keySet(second));
    const fresh = await signedBy(second, claims("rotates"));
    await vi.waitFor(async () => expect((await ask("rotates", fresh)).status).toBe(200), {
      timeout: 30_000,
      interval: 500,
    });
    const old = await signedBy(first, claims("rotates", { jti: "after" }));
    expect(await ask("rotates", old)).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
  });
});

describe("a token whose provider", () => {
  it.each(["down", "broken", "slow", "huge", "moved", "garbage", "empty", "gone"] as const)(
    "is %s cannot be verified: it gets 503 with Retry-After, and other tenants are not held up",
    async (name) => {
      const waiting = ask(name, await signedBy(first, claims(name)));
      expect((await ask("fine", await signedBy(first, claims("fine", { jti: name })))).status).toBe(200);
      const answer = await waiting;
      expect(answer).toMatchObject({ status: 503, code: "TOKEN_UNVERIFIABLE", data: undefined });
      expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
      expect(elsewhere.asked.size).toBe(0);
    },
  );

  it("comes back can be verified again", async () => {
    const token = await signedBy(first, claims("gone"));
    server.answers.set("/gone", keySet(first));
    await vi.waitFor(async () => expect((await ask("gone", token)).status).toBe(200), {
      timeout: 20_000,
      interval: 100,
    });
  });

  it("goes away after its keys were fetched remains valid", async () => {
    server.answers.delete("/fine");
    const token = await signedBy(first, claims("fine", { jti: "late" }));
    expect((await ask("fine", token)).status).toBe(200);
  });
});
