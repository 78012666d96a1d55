/** Attacks by requests that need little or nothing of a tenant: bad tokens, unknown tenants, log lines, first requests. */
import { createHmac } from "node:crypto";
import { type Asked, type Attack, askOnAndOn, bodyOf } from "./attack.ts";

const smallBody = bodyOf("{ __typename }");

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

interface Token {
  readonly header?: object;
  readonly claims?: object;
  readonly secret?: string;
}

/** A JWT for `aud`, signed with a secret that no tenant has unless one is given. */
function jwt(aud: string, ordinal: number, { header, claims, secret = "nobody's secret" }: Token): string {
  const signed = `${part({ alg: "HS256", ...header })}.${part({ aud, sub: `s${ordinal}`, ...claims })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const hourAgo = Math.floor(Date.now() / 1_000) - 3_600;

/** One token of each kind. `ordinal` makes each a different one, so that no cache answers for it. */
const badTokens: readonly ((aud: string, ordinal: number, secret: string) => string)[] = [
  (aud, n) => jwt(aud, n, {}),
  (aud, n, secret) => jwt(aud, n, { claims: { exp: hourAgo }, secret }),
  (aud, n) => jwt(aud, n, { header: { kid: `key ${n}` } }),
  (aud, n) => `${part({ alg: "none" })}.${part({ aud, sub: `s${n}` })}.`,
  // 12 kB in all: more than a token may have, less than a request head may.
  (aud, n) => jwt(aud, n, { claims: { padding: "p".repeat(9_000) } }),
  // Just under the limit of 8 kB for a token.
  (aud, n) => jwt(aud, n, { claims: { padding: "p".repeat(5_800) } }),
];

/** A request with a bad token for one of `tenants`. */
function badlyAsked(tenants: readonly string[], ordinal: number, secret: string): Asked {
  const tenant = tenants[ordinal % tenants.length] ?? "";
  const kind = badTokens[Math.floor(ordinal / tenants.length) % badTokens.length];
  const authorization = `Bearer ${kind?.(tenant, ordinal, secret) ?? ""}`;
  return { tenant, body: smallBody, headers: { authorization } };
}

export const tokens: Attack = {
  does: "Sends bearer tokens that do not verify, each a different one, to the victim and to another tenant: wrong signature, expired, `alg: none`, unknown `kid`, 12 kB long.",
  run: (ground) => {
    const { victim, attackers, secret } = ground.target;
    return askOnAndOn(ground, 16, (ordinal) => badlyAsked([victim, attackers[0] ?? ""], ordinal, secret));
  },
};

export const hosts: Attack = {
  does: "Asks for tenants that do not exist, a new name each time, by `Host` and by `x-tenant`; the host reads its tenants from the control table.",
  tenants: "table",
  run: (ground) =>
    askOnAndOn(ground, 16, (ordinal) =>
      ordinal % 2 === 0
        ? { body: smallBody, headers: { host: `made-up-${ordinal}.example` } }
        : { tenant: `made-up-${ordinal}`, body: smallBody },
    ),
};

const failingBody = bodyOf("{ failing(dividend: 1) }");

export const logFlood: Attack = {
  does: "Causes log lines by SQL errors and bad tokens as fast as it can, while nothing reads the host's standard output.",
  unread: true,
  run: (ground) => {
    const { attackers, secret } = ground.target;
    const [tenant = ""] = attackers;
    return askOnAndOn(ground, 16, (ordinal) =>
      ordinal % 2 === 0 ? { tenant, body: failingBody } : badlyAsked([tenant], ordinal, secret),
    );
  },
};

export const builds: Attack = {
  does: "Asks 80 tenants, each of a shape of its own, one after the other and four at a time, so that a build is always under way.",
  run: (ground) => {
    const { others } = ground.target;
    return askOnAndOn(ground, 4, (ordinal) => ({
      tenant: others[ordinal % others.length] ?? "",
      body: smallBody,
    }));
  },
};
