import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { describe, expect, it } from "vitest";
import { listSource } from "../../src/tenants/list-source.ts";
import { parseLoneTenant } from "../../src/tenants/token-conflicts.ts";
import { defaults, faultsOf, parseRecord as parse } from "../support/tenant-record.ts";

const secret = "0123456789abcdef0123456789abcdef";
const other = "another secret of 32 bytes or more";

const pem = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString();
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ed = generateKeyPairSync("ed25519");

describe("tenants of one list", () => {
  const list = (acme: object, globex: object, more: object[] = [{}, {}]) =>
    faultsOf(() =>
      listSource([
        parse({ schemas: ["acme"], jwt: acme, ...more[0] }),
        parse({ id: "globex", schemas: ["globex"], jwt: globex, ...more[1] }),
      ]),
    );
  const audience = "postgraphile";
  const key = { publicKey: pem(rsa.publicKey) };
  const jwks = { jwksUrl: "https://a.example/keys" };

  it.each([
    ["keys of their own", { secret, audience }, { secret: other, audience }],
    ["a secret and a public key", { secret, audience }, { ...key, audience }],
    ["public keys of their own", { ...key, audience }, { publicKey: pem(ed.publicKey), audience }],
    ["one secret and the usual audiences", { secret }, { secret }],
    ["one secret and audiences of their own", { secret, audience: "a" }, { secret, audience: ["b", "c"] }],
    [
      "one JWKS and a claim that names them",
      { ...jwks, audience, tenantClaim: "org" },
      { ...jwks, audience, tenantClaim: "org" },
    ],
    ["issuers of their own", { ...jwks, audience, issuer: "a" }, { ...jwks, audience, issuer: "b" }],
  ])("are distinguished by %s", (_, acme, globex) => {
    expect(list(acme, globex)).toEqual({});
  });

  const both = { "tenants[0].jwt.audience": /globex/, "tenants[1].jwt.audience": /acme/ };
  it.each([
    ["one secret and audience", { secret, audience }, { secret, audience }, both],
    [
      "one secret and an audience in common",
      { secret, audience: ["a", "b"] },
      { secret, audience: ["b", "c"] },
      both,
    ],
    [
      "two JWKS, whose keys nobody knows",
      { ...jwks, audience },
      { jwksUrl: "https://b.example/keys", audience },
      both,
    ],
    ["a JWKS that may have the public key", { ...jwks, audience }, { ...key, audience }, both],
    [
      "an issuer that only one of them asks for",
      { ...jwks, audience, issuer: "a" },
      { ...jwks, audience },
      both,
    ],
    [
      "a claim that only one of them asks for",
      { secret, audience, tenantClaim: "org" },
      { secret, audience },
      { "tenants[1].jwt.audience": /acme/ },
    ],
    ["an audience that is the other's id", { secret, audience: "globex" }, { secret }, both],
    [
      "an audience that is the other's id, whatever else a token has to say",
      { secret, audience: "globex", tenantClaim: "org" },
      { secret },
      { "tenants[1].jwt.audience": /acme/ },
    ],
  ])("are a fault with %s", (_, acme, globex, faults) => {
    const expected = Object.entries(faults).map(([path, message]) => [path, expect.stringMatching(message)]);
    expect(list(acme, globex)).toEqual(Object.fromEntries(expected));
  });

  it("are a fault with one session function", () => {
    const session = { schemas: ["shared"], jwt: null, session: { function: "shared.authenticate" } };
    expect(list({}, {}, [session, session])).toEqual({
      "tenants[1].session.function": expect.stringMatching(/acme/),
    });
    expect(list({}, {}, [session, { ...session, database: "other" }])).toEqual({});
  });
});

describe("a tenant whose peers are not known", () => {
  const lone = (jwt: object) =>
    faultsOf(() => parseLoneTenant({ id: "acme", schemas: ["app"], jwt }, defaults));
  const tenantClaim = "org";

  it.each([
    {},
    { audience: "acme" },
    { audience: ["https://api.example/acme", "urn:api:acme", "https://api.example:8443/v1/acme"] },
    { audience: "https://api.example", tenantClaim },
    { audience: ["https://api.example:8443", "https://api.example/v1/", "acme"], tenantClaim },
  ])("accepts tokens that name it and nobody else (%j)", (jwt) => {
    expect(lone({ secret, ...jwt })).toEqual({});
  });

  it.each([
    { audience: "postgraphile" },
    { audience: ["acme", "x"] },
    { audience: "notacme" },
    { audience: "acme/" },
    { audience: "https://acme" },
    { audience: "https://api.example", issuer: "acme" },
    { audience: "https://api.example" },
    // With its own id in the claim, but another's in the audience, such a token would be good for that one.
    { audience: "globex", tenantClaim },
    { audience: "https://api.example/v1", tenantClaim },
    { audience: "urn:api:globex", tenantClaim },
  ])("is refused if others' tokens might pass for its own, or its own for others' (%j)", (jwt) => {
    expect(lone({ secret, ...jwt })).toEqual({ "jwt.audience": expect.stringMatching(/acme/) });
  });
});
