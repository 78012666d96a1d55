import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { describe, expect, it } from "vitest";
import { faultsOf, parseRecord as parse } from "../support/tenant-record.ts";

const secret = "0123456789abcdef0123456789abcdef";

const pem = (key: KeyObject): string =>
  key.export({ type: key.type === "private" ? "pkcs8" : "spki", format: "pem" }).toString();
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const short = generateKeyPairSync("rsa", { modulusLength: 1024 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-384" });
const koblitz = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
const ed = generateKeyPairSync("ed25519");
const dh = generateKeyPairSync("x25519");

describe("the rules of a tenant's JWTs", () => {
  it("are complete with a key: tokens must name the tenant, and be signed as such a key signs", () => {
    expect(parse({ jwt: { secret } }).jwt).toEqual({
      key: { kind: "secret", secret },
      algorithms: ["HS256"],
      audience: ["acme"],
      issuer: [],
      roleClaim: "role",
      tenantClaim: null,
      clockToleranceMs: 0,
      expiresInMs: 86_400_000,
    });
    const algorithmsOf = (publicKey: string) => parse({ jwt: { publicKey } }).jwt?.algorithms;
    expect(algorithmsOf(pem(rsa.publicKey))).toEqual(["RS256"]);
    expect(algorithmsOf(pem(ec.publicKey))).toEqual(["ES384"]);
    expect(algorithmsOf(pem(ed.publicKey))).toEqual(["EdDSA", "Ed25519"]);
    const { jwt } = parse({ jwt: { jwksUrl: "https://issuer.example/keys" } });
    expect(jwt?.algorithms.filter((algorithm) => /^HS|none/i.test(algorithm))).toEqual([]);
  });

  it("are equal for one key in two spellings", () => {
    const text = pem(rsa.publicKey);
    const spelt = parse({ jwt: { publicKey: `\n${text.replaceAll("\n", "\r\n")}\n` } });
    expect(spelt.jwt?.key).toEqual(parse({ jwt: { publicKey: text } }).jwt?.key);
  });

  it.each([
    ["no key", {}, "jwt", /exactly one/],
    ["two keys", { secret, jwksUrl: "https://a.example" }, "jwt", /exactly one/],
    ["a short secret", { secret: "x".repeat(31) }, "jwt.secret", /32 bytes/],
    [
      "a secret too short for its algorithm",
      { secret, algorithms: ["HS256", "HS512"] },
      "jwt.secret",
      /64 bytes/,
    ],
    ["a secret with a NUL", { secret: `${secret}\0` }, "jwt.secret", /NUL/],
    [
      "an asymmetric algorithm with a secret",
      { secret, algorithms: ["HS256", "RS256"] },
      "jwt.algorithms[1]",
      /with a secret/,
    ],
    [
      "HS256 with a public key",
      { publicKey: pem(rsa.publicKey), algorithms: ["HS256"] },
      "jwt.algorithms[0]",
      /this public key/,
    ],
    [
      "another curve's algorithm",
      { publicKey: pem(ec.publicKey), algorithms: ["ES256"] },
      "jwt.algorithms[0]",
      /ES384/,
    ],
    [
      "HS256 with a JWKS",
      { jwksUrl: "https://a.example", algorithms: ["HS256"] },
      "jwt.algorithms[0]",
      /a JWKS/,
    ],
    ["the algorithm none", { secret, algorithms: ["none"] }, "jwt.algorithms[0]", /HS256, HS384, HS512/],
    ["no algorithm", { secret, algorithms: [] }, "jwt.algorithms", /at least one/],
    ["a private key", { publicKey: pem(rsa.privateKey) }, "jwt.publicKey", /private/],
    ["a short key", { publicKey: pem(short.publicKey) }, "jwt.publicKey", /2048 bits/],
    ["a curve that JWTs have not", { publicKey: pem(koblitz.publicKey) }, "jwt.publicKey", /P-256/],
    ["a key for something else", { publicKey: pem(dh.publicKey) }, "jwt.publicKey", /RSA/],
    ["a text that is no key", { publicKey: secret }, "jwt.publicKey", /PEM/],
    ["a file as JWKS", { jwksUrl: "file:///etc/passwd" }, "jwt.jwksUrl", /https/],
    ["a JWKS with a password", { jwksUrl: "https://u:p@a.example" }, "jwt.jwksUrl", /password/],
    ["no audience", { secret, audience: [] }, "jwt.audience", /at least one/],
    ["an empty audience", { secret, audience: "" }, "jwt.audience", /string/],
    ["a day of tolerance", { secret, clockTolerance: "1d" }, "jwt.clockTolerance", /10 minutes/],
    ["a misspelt key", { secret, algorithm: "HS256" }, "jwt.algorithm", /unknown/],
    ["a text instead", secret, "jwt", /object/],
  ])("with %s are a fault at its path, which repeats no secret", (_, jwt, path, message) => {
    const faults = faultsOf(() => parse({ jwt }));
    expect(faults).toEqual({ [path]: expect.stringMatching(message) });
    expect(JSON.stringify(faults)).not.toMatch(/0123456789|PRIVATE KEY|xxxx/);
  });
});

describe("a session function", () => {
  const schemas = { app: "acme_app", hidden: "acme_hidden" };
  it("is looked up in the logical schema of that name, or else in PostgreSQL's", () => {
    const session = (name: string) => parse({ schemas, session: { function: name } }).session;
    expect(session("hidden.authenticate")).toEqual({
      schema: "acme_hidden",
      function: "authenticate",
      role: null,
      own: true,
    });
    expect(session("acme_app.authenticate")).toMatchObject({ schema: "acme_app", own: true });
    expect(session("acme_private.authenticate")).toMatchObject({ schema: "acme_private", own: false });
  });

  it.each([
    ["no schema", { function: "authenticate" }, "session.function", /app_private/],
    ["too many parts", { function: "a.b.c" }, "session.function", /app_private/],
    ["an empty name", { function: "a." }, "session.function", /app_private/],
    ["PostgreSQL's own", { function: "pg_catalog.to_json" }, "session.function", /reserved/],
    ["a name of 64 bytes", { function: `a.${"x".repeat(64)}` }, "session.function", /app_private/],
    ["the role none", { function: "a.b", role: "none" }, "session.role", /not a role name/],
  ])("with %s is a fault", (_, session, path, message) => {
    expect(faultsOf(() => parse({ session }))).toEqual({ [path]: expect.stringMatching(message) });
  });

  it("cannot be combined with jwt", () => {
    const work = () => parse({ jwt: { secret }, session: { function: "a.b" } });
    expect(faultsOf(work)).toEqual({ session: expect.stringMatching(/combined with jwt/) });
  });
});
