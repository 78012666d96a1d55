import { createHmac, createSign, generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { authHost } from "../../support/auth-host.ts";
import { withToken } from "../../support/auth-tenants.ts";
import { look, type Untouched } from "../../support/hostile-host.ts";
import { type KeyServer, keyServer, keySet, signingKey } from "../../support/key-server.ts";

/** Tokens made by hand, as no library would: each asks acme, or hooli which has a public key, for a write. */
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

/** Signed with acme's own secret, so that nothing but its form is wrong. */
const own = (header: unknown, payload: unknown = claims, hash = "sha256"): string =>
  signedText(`${b64(header)}.${b64(payload)}`, auth.own, hash);
const hs = { alg: "HS256" };
/** Signed with the attacker's own key, of which the header tells. */
const theirs = (header: object): string => {
  const text = `${b64({ alg: "RS256", ...header })}.${b64({ ...claims, aud: "hooli" })}`;
  return `${text}.${createSign("sha256").update(text).sign(attacker.privateKey, "base64url")}`;
};
const good = (): string => own(hs);
const url = (): string => `${elsewhere.url}/keys`;

type Case = [name: string, make: () => string];

const ofAcme: Case[] = [
  ["an algorithm in small letters", () => own({ alg: "hs256" })],
  ["a longer hash than the tenant takes", () => own({ alg: "HS512" }, claims, "sha512")],
  ["an algorithm that is not what signed it", () => own({ alg: "HS384" })],
  ["an asymmetric algorithm over the secret", () => own({ alg: "RS256" })],
  ["a list of algorithms", () => own({ alg: ["HS256"] })],
  ["no algorithm", () => own({ typ: "JWT" })],
  ["an empty algorithm", () => own({ alg: "" })],
  ["none in capitals and no signature", () => `${b64({ alg: "NONE" })}.${b64(claims)}.`],
  ["none, and a signature", () => own({ alg: "none" })],
  ["something critical that nobody knows", () => own({ ...hs, crit: ["sudo"], sudo: true })],
  ["nothing critical", () => own({ ...hs, crit: [] })],
  ["a payload that is not encoded", () => own({ ...hs, b64: false, crit: ["b64"] })],
  ["a header that is a list", () => own([hs])],
  ["a header that is null", () => own(null)],
  ["a header that is a text", () => own('"HS256"')],
  [
    "a header with an embedded secret, which signed it",
    () => signedText(`${b64({ ...hs, jwk: { kty: "oct", k: b64("mine") } })}.${b64(claims)}`, "mine"),
  ],
  ["a payload that is a list", () => own(hs, [claims])],
  ["a payload that is null", () => own(hs, null)],
  ["a payload that is a text", () => own(hs, '"acme"')],
  ["a payload that is nothing", () => own(hs, "")],
  ["a payload that is no JSON", () => own(hs, "{aud:'acme'}")],
  [
    "a payload with half a character",
    () => signedText(`${b64(hs)}.${Buffer.from([0x7b, 0xff, 0x7d]).toString("base64url")}`, auth.own),
  ],
  ["an audience that is an object", () => own(hs, { ...claims, aud: { acme: true } })],
  ["an audience that is true", () => own(hs, { ...claims, aud: true })],
  ["a list of others' audiences", () => own(hs, { ...claims, aud: ["globex", "acmeacme"] })],
  ["an audience in capitals", () => own(hs, { ...claims, aud: "ACME" })],
  ["an audience with a NUL", () => own(hs, { ...claims, aud: "acme\0" })],
  ["an end before all time", () => own(hs, { ...claims, exp: -1 })],
  ["an end of null", () => own(hs, { ...claims, exp: null })],
  ["an end in a list", () => own(hs, { ...claims, exp: [9_999_999_999] })],
  ["a begin that is text", () => own(hs, { ...claims, nbf: "0" })],
  ["a begin beyond all time", () => own(hs, '{"aud":"acme","nbf":1e400}')],
  ["a role of true", () => own(hs, { ...claims, role: true })],
  ["a role that is an object", () => own(hs, { ...claims, role: { toString: "x" } })],
  ["an empty role", () => own(hs, { ...claims, role: "" })],
  ["a role of none", () => own(hs, { ...claims, role: "none" })],
  ["a claim of half a character", () => own(hs, '{"aud":"acme","name":"\\ud800"}')],
  ["no signature", () => good().replace(/[^.]*$/, "")],
  ["a signature that is a letter shorter", () => good().slice(0, -1)],
  ["a signature that is a letter longer", () => `${good()}A`],
  ["two signatures", () => `${good()}.${good().split(".")[2]}`],
  [
    "another token's signature",
    () => good().replace(/[^.]*$/, own(hs, { ...claims, user_id: 2 }).split(".")[2] ?? ""),
  ],
  [
    "five parts, as an encrypted one has",
    () => `${b64({ alg: "dir", enc: "A256GCM" })}..${b64("iv")}.${b64("text")}.${b64("tag")}`,
  ],
  ["two parts", () => good().split(".").slice(0, 2).join(".")],
];

const ofHooli: Case[] = [
  ["a key of its own in the header", () => theirs({ jwk })],
  ["an address of keys in the header", () => theirs({ jku: url(), kid: "mine" })],
  ["an address of certificates in the header", () => theirs({ x5u: url() })],
  ["certificates in the header", () => theirs({ x5c: [b64("certificate")], x5t: b64("print") })],
  ["a key's name that is an address", () => theirs({ kid: url() })],
  ["another family's algorithm", () => theirs({ alg: "PS256" })],
  ["a curve's algorithm", () => theirs({ alg: "ES256" })],
];

const mutation = `mutation { addItem(input: { label: "forbidden fruit", mood: calm }) { result { rowId } } }`;

describe("a token with", () => {
  it("nothing wrong, made in the same way, is taken", async () => {
    const answer = await withToken(auth.at.host, auth.at.acme, good(), "{ whoami }");
    expect(answer).toMatchObject({ status: 200, data: { whoami: auth.at.acme.roles.authenticated } });
  });

  it.each(ofAcme)("%s is refused", async (_, make) => {
    const answer = await withToken(auth.at.host, auth.at.acme, make(), mutation);
    expect(answer).toMatchObject({ status: 401, data: undefined });
    expect(answer.code).toMatch(/^TOKEN_(INVALID|EXPIRED)$/);
  });

  it.each(ofHooli)("%s is refused, and nobody is asked for keys", async (_, make) => {
    const answer = await withToken(auth.at.host, auth.at.hooli, make(), mutation);
    expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID", data: undefined });
    expect(elsewhere.asked.size).toBe(0);
  });
});

describe("a token that is good, but", () => {
  it.each<[string, (token: string) => { path: string; headers: Record<string, string> }]>([
    ["in the address", (token) => ({ path: `/graphql?access_token=${token}`, headers: {} })],
    ["in a cookie", (token) => ({ path: "/graphql", headers: { cookie: `Authorization=Bearer ${token}` } })],
    [
      "in a proxy's header",
      (token) => ({ path: "/graphql", headers: { "proxy-authorization": `Bearer ${token}` } }),
    ],
    [
      "in a header of another name",
      (token) => ({ path: "/graphql", headers: { "x-authorization": `Bearer ${token}` } }),
    ],
  ])("%s is nobody's", async (_, place) => {
    const { path, headers } = place(good());
    const answer = await auth.at.host.graphql("acme", "{ whoami }", {
      path,
      headers: { "x-tenant": "acme", ...headers },
    });
    expect(answer.data).toEqual({ whoami: auth.at.acme.roles.anonymous });
  });

  it.each(["globex", "initech", "hooli"])("brought to %s is refused there", async (id) => {
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

it("leaves everything as it was", async () => {
  const after = await look({ ...auth.at, tenants: ids });
  expect({ ...after, cells: [] }).toEqual({ ...before, cells: [] });
  expect(auth.at.host.process.stderr).toBe("");
});
