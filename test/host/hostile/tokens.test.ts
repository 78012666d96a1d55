import { createHmac, createSign, generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { authHost } from "../../support/auth-host.ts";
import { withToken } from "../../support/auth-tenants.ts";
import { look, type Untouched } from "../../support/hostile-host.ts";
import { type KeyServer, keyServer, keySet, signingKey } from "../../support/key-server.ts";

/** Tokens made by hand, as no library would: each is tried with a write at acme, or at hooli, which has a public key. */
const auth = authHost();
let elsewhere: KeyServer;
let before: Untouched;
const ids = ["acme", "globex", "initech", "hooli"].map((id) => ({ id }));

beforeAll(async () => {
  elsewhere = await keyServer();
  elsewhere.answers.set("/keys", keySet(signingKey("mine")));
  const ask = await withToken(
    auth.at.host,
    auth.at.acme,
    await auth.sign({}),
    "{ whoami allItems { nodes { label } } }",
  );
  expect(ask.data.whoami).toBe(auth.at.acme.roles.authenticated);
  before = await look({ ...auth.at, tenants: ids });
});
afterAll(() => elsewhere.close());

const attacker = generateKeyPairSync("rsa", { modulusLength: 2048 });
const jwk = attacker.publicKey.export({ format: "jwk" });
const claims = { aud: "acme", user_id: 1 };
const b64 = (value: unknown): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const signedText = (text: string, secret: string, hash = "sha256"): string =>
  `${text}.${createHmac(hash, secret).update(text).digest("base64url")}`;

/** Signed with acme's own secret, so that only its form is wrong. */
const own = (header: unknown, payload: unknown = claims, hash = "sha256"): string =>
  signedText(`${b64(header)}.${b64(payload)}`, auth.own, hash);
const hs = { alg: "HS256" };
/** Signed with the attacker's own key, which the header refers to. */
const theirs = (header: object): string => {
  const text = `${b64({ alg: "RS256", ...header })}.${b64({ ...claims, aud: "hooli" })}`;
  return `${text}.${createSign("sha256").update(text).sign(attacker.privateKey, "base64url")}`;
};
const good = (): string => own(hs);
const url = (): string => `${elsewhere.url}/keys`;

type Case = [name: string, make: () => string];

const ofAcme: Case[] = [
  ["an algorithm in small letters", () => own({ alg: "hs256" })],
  ["a longer hash than the tenant accepts", () => own({ alg: "HS512" }, claims, "sha512")],
  ["an algorithm other than the one that signed it", () => own({ alg: "HS384" })],
  ["an asymmetric algorithm over the secret", () => own({ alg: "RS256" })],
  ["a list of algorithms", () => own({ alg: ["HS256"] })],
  ["no algorithm", () => own({ typ: "JWT" })],
  ["an empty algorithm", () => own({ alg: "" })],
  ["none in capitals and no signature", () => `${b64({ alg: "NONE" })}.${b64(claims)}.`],
  ["none, and a signature", () => own({ alg: "none" })],
  ["an unknown critical header", () => own({ ...hs, crit: ["sudo"], sudo: true })],
  ["an empty crit", () => own({ ...hs, crit: [] })],
  ["a payload that is not encoded", () => own({ ...hs, b64: false, crit: ["b64"] })],
  ["a header that is a list", () => own([hs])],
  ["a header that is null", () => own(null)],
  ["a header that is a string", () => own('"HS256"')],
  [
    "a header with an embedded secret, which signed it",
    () => signedText(`${b64({ ...hs, jwk: { kty: "oct", k: b64("mine") } })}.${b64(claims)}`, "mine"),
  ],
  ["a payload that is a list", () => own(hs, [claims])],
  ["a payload that is null", () => own(hs, null)],
  ["a payload that is a string", () => own(hs, '"acme"')],
  ["an empty payload", () => own(hs, "")],
  ["a payload that is not JSON", () => own(hs, "{aud:'acme'}")],
  [
    "a payload that is not UTF-8",
    () => signedText(`${b64(hs)}.${Buffer.from([0x7b, 0xff, 0x7d]).toString("base64url")}`, auth.own),
  ],
  ["an audience that is an object", () => own(hs, { ...claims, aud: { acme: true } })],
  ["an audience that is true", () => own(hs, { ...claims, aud: true })],
  ["a list of others' audiences", () => own(hs, { ...claims, aud: ["globex", "acmeacme"] })],
  ["an audience in capitals", () => own(hs, { ...claims, aud: "ACME" })],
  ["an audience with a NUL", () => own(hs, { ...claims, aud: "acme\0" })],
  ["a negative exp", () => own(hs, { ...claims, exp: -1 })],
  ["an exp of null", () => own(hs, { ...claims, exp: null })],
  ["an exp that is a list", () => own(hs, { ...claims, exp: [9_999_999_999] })],
  ["an nbf that is a string", () => own(hs, { ...claims, nbf: "0" })],
  ["an infinite nbf", () => own(hs, '{"aud":"acme","nbf":1e400}')],
  ["a role of true", () => own(hs, { ...claims, role: true })],
  ["a role that is an object", () => own(hs, { ...claims, role: { toString: "x" } })],
  ["an empty role", () => own(hs, { ...claims, role: "" })],
  ["a role of none", () => own(hs, { ...claims, role: "none" })],
  ["a claim with half a surrogate pair", () => own(hs, '{"aud":"acme","name":"\\ud800"}')],
  ["no signature", () => good().replace(/[^.]*$/, "")],
  ["a signature one character too short", () => good().slice(0, -1)],
  ["a signature one character too long", () => `${good()}A`],
  ["two signatures", () => `${good()}.${good().split(".")[2]}`],
  [
    "another token's signature",
    () => good().replace(/[^.]*$/, own(hs, { ...claims, user_id: 2 }).split(".")[2] ?? ""),
  ],
  [
    "five parts, like an encrypted one",
    () => `${b64({ alg: "dir", enc: "A256GCM" })}..${b64("iv")}.${b64("text")}.${b64("tag")}`,
  ],
  ["two parts", () => good().split(".").slice(0, 2).join(".")],
];

const ofHooli: Case[] = [
  ["a key of its own in the header", () => theirs({ jwk })],
  ["a key set URL in the header", () => theirs({ jku: url(), kid: "mine" })],
  ["a certificate URL in the header", () => theirs({ x5u: url() })],
  ["certificates in the header", () => theirs({ x5c: [b64("certificate")], x5t: b64("print") })],
  ["a kid that is a URL", () => theirs({ kid: url() })],
  ["another family's algorithm", () => theirs({ alg: "PS256" })],
  ["an elliptic-curve algorithm", () => theirs({ alg: "ES256" })],
];

const mutation = `mutation { addItem(input: { label: "forbidden fruit", mood: calm }) { result { rowId } } }`;

describe("a token with", () => {
  it("nothing wrong, made in the same way, is accepted", async () => {
    const answer = await withToken(auth.at.host, auth.at.acme, good(), "{ whoami }");
    expect(answer).toMatchObject({ status: 200, data: { whoami: auth.at.acme.roles.authenticated } });
  });

  it.each(ofAcme)("%s is refused", async (_, make) => {
    const answer = await withToken(auth.at.host, auth.at.acme, make(), mutation);
    expect(answer).toMatchObject({ status: 401, data: undefined });
    expect(answer.code).toMatch(/^TOKEN_(INVALID|EXPIRED)$/);
  });

  it.each(ofHooli)("%s is refused, and no keys are fetched", async (_, make) => {
    const answer = await withToken(auth.at.host, auth.at.hooli, make(), mutation);
    expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID", data: undefined });
    expect(elsewhere.asked.size).toBe(0);
  });
});

describe("a valid token", () => {
  it.each<[string, (token: string) => { path: string; headers: Record<string, string> }]>([
    ["in the URL", (token) => ({ path: `/graphql?access_token=${token}`, headers: {} })],
    ["in a cookie", (token) => ({ path: "/graphql", headers: { cookie: `Authorization=Bearer ${token}` } })],
    [
      "in a proxy's header",
      (token) => ({ path: "/graphql", headers: { "proxy-authorization": `Bearer ${token}` } }),
    ],
    [
      "in a header of another name",
      (token) => ({ path: "/graphql", headers: { "x-authorization": `Bearer ${token}` } }),
    ],
  ])("%s is ignored", async (_, place) => {
    const { path, headers } = place(good());
    const answer = await auth.at.host.graphql("acme", "{ whoami }", {
      path,
      headers: { "x-tenant": "acme", ...headers },
    });
    expect(answer.data).toEqual({ whoami: auth.at.acme.roles.anonymous });
  });

  it.each(["globex", "initech", "hooli"])("sent to %s is refused there", async (id) => {
    for (const token of [
      good(),
      own(hs, { ...claims, aud: id }),
      own(hs, { ...claims, aud: ["acme", id] }),
    ]) {
      const answer = await withToken(auth.at.host, { id }, token, mutation);
      expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
    }
  });
});

it("none of this changes the database or a decision", async () => {
  const after = await look({ ...auth.at, tenants: ids });
  expect({ ...after, cells: [] }).toEqual({ ...before, cells: [] });
  expect(auth.at.host.process.stderr).toBe("");
});
