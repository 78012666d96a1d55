/** The part of a tenant's record about JWTs: how its tokens are told from all others. */
import { createPublicKey, type KeyObject } from "node:crypto";
import { z } from "zod";
import { text } from "../validation/identifiers.ts";
import { keyed } from "../validation/one-of.ts";
import { durationMs } from "../validation/units.ts";

export type JwtKey =
  | { readonly kind: "secret"; readonly secret: string }
  /** Converted to SPKI in PEM, so that equal keys are equal strings. */
  | { readonly kind: "publicKey"; readonly pem: string }
  | { readonly kind: "jwks"; readonly url: string };

export interface JwtRules {
  readonly key: JwtKey;
  /** At least one, and all suitable for the kind of key; the host signs with the first. */
  readonly algorithms: readonly string[];
  /** At least one; a token must name one of them. */
  readonly audience: readonly string[];
  /** Empty: any issuer. */
  readonly issuer: readonly string[];
  readonly roleClaim: string;
  /** The claim that must be the tenant's id. */
  readonly tenantClaim: string | null;
  readonly clockToleranceMs: number;
  /** Lifetime of tokens signed by the host that do not set one themselves. */
  readonly expiresInMs: number;
}

const name = text.refine(
  (value) => value !== "" && value.length <= 200,
  "must be a string of 1 to 200 characters",
);

const oneOrMore = z
  .union([name, z.array(name).min(1, "must name at least one")], "must be a string or a list of strings")
  .transform((value) => (typeof value === "string" ? [value] : value));

/** RFC 7518, section 3.2: a key must be at least as long as the hash output. */
const secretBytes: Readonly<Record<string, number>> = { HS256: 32, HS384: 48, HS512: 64 };
const rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
const edwards = ["EdDSA", "Ed25519"];
const curves: Readonly<Record<string, string>> = {
  prime256v1: "ES256",
  secp384r1: "ES384",
  secp521r1: "ES512",
};

const longestToleranceMs = 600_000;
const dayMs = 86_400_000;

interface Algorithms {
  readonly allowed: readonly string[];
  readonly usual: readonly string[];
}

/** The algorithms that a public key can verify, or why the key is unacceptable. */
function algorithmsOf(key: KeyObject): Algorithms | string {
  const { modulusLength = 0, namedCurve = "" } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "rsa":
      if (modulusLength < 2048) return "must have at least 2048 bits (RFC 7518, section 3.3)";
      return { allowed: rsa, usual: ["RS256"] };
    case "ec": {
      const algorithm = curves[namedCurve];
      if (algorithm === undefined) return "must be on the curve P-256, P-384 or P-521";
      return { allowed: [algorithm], usual: [algorithm] };
    }
    case "ed25519":
      return { allowed: edwards, usual: edwards };
    default:
      return "must be an RSA, an elliptic curve or an Ed25519 key";
  }
}

interface Key {
  readonly key: JwtKey;
  readonly algorithms: Algorithms;
}

/**
 * The key in `pem`, or why it is unacceptable. A private key would be read as its public half, but it should
 * not be here at all.
 */
function publicKeyOf(pem: string): Key | string {
  let key: KeyObject;
  try {
    if (/PRIVATE KEY/.test(pem)) return "is a private key: configure the public key only";
    key = createPublicKey(pem);
  } catch {
    return "must be a public key or a certificate in PEM format";
  }
  const algorithms = algorithmsOf(key);
  if (typeof algorithms === "string") return algorithms;
  const spki = key.export({ type: "spki", format: "pem" }).toString();
  return { key: { kind: "publicKey", pem: spki }, algorithms };
}

const jwtShape = keyed({
  /** Secret: no message may repeat it. */
  secret: text.nullish(),
  publicKey: text.nullish(),
  jwksUrl: text
    .transform((value, context): string => {
      const url = URL.parse(value);
      const plain = url !== null && url.username === "" && url.password === "" && url.hash === "";
      if (plain && /^https?:$/.test(url.protocol)) return url.href;
      context.addIssue("must be an http or https URL without a user, password or fragment");
      return z.NEVER;
    })
    .nullish(),
  algorithms: z.array(z.string()).min(1, "must name at least one").nullish(),
  audience: oneOrMore.nullish(),
  issuer: oneOrMore.nullish(),
  roleClaim: name.nullish(),
  tenantClaim: name.nullish(),
  clockTolerance: durationMs(0)
    .refine((ms) => ms <= longestToleranceMs, "must be at most 10 minutes")
    .nullish(),
  expiresIn: durationMs(1_000).nullish(),
});

/** Like `JwtRules`, but the audience may be left out and defaults to the tenant id. */
export type JwtRecord = Omit<JwtRules, "audience"> & { readonly audience: readonly string[] | null };

/** The key of a record, or the path and reason why there is none. */
function keyOf({ secret, publicKey, jwksUrl }: z.output<typeof jwtShape>): Key | [string[], string] {
  if ([secret, publicKey, jwksUrl].filter((each) => each != null).length !== 1) {
    return [[], "must have exactly one of secret, publicKey and jwksUrl"];
  }
  if (secret != null) {
    const allowed = Object.keys(secretBytes);
    return { key: { kind: "secret", secret }, algorithms: { allowed, usual: ["HS256"] } };
  }
  if (jwksUrl != null) {
    const allowed = [...rsa, ...Object.values(curves), ...edwards];
    return { key: { kind: "jwks", url: jwksUrl }, algorithms: { allowed, usual: allowed } };
  }
  const found = publicKeyOf(publicKey ?? "");
  return typeof found === "string" ? [["publicKey"], found] : found;
}

const kinds = { secret: "a secret", publicKey: "this public key", jwks: "a JWKS" };

export const jwtRecord = jwtShape.transform((record, context): JwtRecord => {
  const faults: [PropertyKey[], string][] = [];
  const refuse = (): never => {
    for (const [path, message] of faults) context.addIssue({ code: "custom", path, message });
    return z.NEVER;
  };
  const found = keyOf(record);
  if (Array.isArray(found)) {
    faults.push(found);
    return refuse();
  }
  const { key, algorithms } = found;
  const named = record.algorithms ?? algorithms.usual;
  for (const [index, algorithm] of named.entries()) {
    if (algorithms.allowed.includes(algorithm)) continue;
    const message = `with ${kinds[key.kind]}, must be one of ${algorithms.allowed.join(", ")}`;
    faults.push([["algorithms", index], message]);
  }
  const least = Math.max(...named.map((algorithm) => secretBytes[algorithm] ?? 0));
  if (key.kind === "secret" && Buffer.byteLength(key.secret) < least) {
    faults.push([["secret"], `must be at least ${least} bytes long (RFC 7518, section 3.2)`]);
  }
  if (faults.length > 0) return refuse();
  return {
    key,
    algorithms: named,
    audience: record.audience ?? null,
    issuer: record.issuer ?? [],
    roleClaim: record.roleClaim ?? "role",
    tenantClaim: record.tenantClaim ?? null,
    clockToleranceMs: record.clockTolerance ?? 0,
    expiresInMs: record.expiresIn ?? dayMs,
  };
});
