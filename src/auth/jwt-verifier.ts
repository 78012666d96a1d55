/** Verifies a tenant's JWTs. */
import { createPublicKey, createSecretKey, type KeyObject } from "node:crypto";
import { type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { HostError, unreachable } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { signedForClaim } from "../shared/protocol/signed-for.ts";
import type { JwtRules } from "../tenants/jwt-config.ts";
import type { Bearer } from "./claims.ts";
import type { KeySets } from "./jwks.ts";
import { jwtRefusal } from "./refusal.ts";
import { refusedToken } from "./refused-token.ts";

/**
 * Verifies a token by one tenant's rules and returns its bearer; rejects with `TOKEN_INVALID`,
 * `TOKEN_EXPIRED` or, if the keys are unavailable, `TOKEN_UNVERIFIABLE`.
 */
export type VerifyJwt = (token: string) => Promise<Bearer>;

export function jwtVerifier(tenant: TenantId, rules: JwtRules, keySets: KeySets): VerifyJwt {
  const { algorithms, audience, issuer, roleClaim, tenantClaim, clockToleranceMs } = rules;
  const key = keyOf(rules, keySets);
  const options = {
    // Only algorithms for this kind of key: a public key is never used as a secret, and `none` is never
    // allowed.
    algorithms: [...algorithms],
    audience: [...audience],
    clockTolerance: clockToleranceMs / 1_000,
    ...(issuer.length === 0 ? {} : { issuer: [...issuer] }),
  };
  return async (token) => {
    const payload = await verified(tenant, rules, () =>
      typeof key === "function" ? jwtVerify(token, key, options) : jwtVerify(token, key, options),
    );
    if (tenantClaim !== null && claim(payload, tenantClaim) !== tenant) {
      throw refusedToken(tenant, "other-tenant", "the token's tenantClaim names another tenant or none");
    }
    // A token that the host signed for one tenant is invalid for all others, whatever the login function
    // behind it wrote into tenantClaim.
    const signedFor = claim(payload, signedForClaim);
    if (signedFor !== undefined && signedFor !== tenant) {
      throw refusedToken(tenant, "other-tenant", "the token was signed for another tenant");
    }
    const { exp } = payload;
    return {
      role: claim(payload, roleClaim),
      claims: payload,
      remainingMs: exp === undefined ? Number.POSITIVE_INFINITY : exp * 1_000 + clockToleranceMs - Date.now(),
    };
  };
}

function keyOf({ key }: JwtRules, keySets: KeySets): KeyObject | JWTVerifyGetKey {
  switch (key.kind) {
    case "secret":
      return createSecretKey(key.secret, "utf8");
    case "publicKey":
      return createPublicKey(key.pem);
    case "jwks":
      // Looked up for each token: an unused key set may be evicted from the cache and must not be kept alive
      // by this closure.
      return (header, token) => keySets.at(key.url)(header, token);
    default:
      return unreachable(key);
  }
}

const claim = (payload: JWTPayload, name: string): unknown =>
  Object.hasOwn(payload, name) ? payload[name] : undefined;

/** Runs `verify` and returns the payload; other errors become `TOKEN_INVALID` or the like. */
async function verified(
  tenant: TenantId,
  rules: JwtRules,
  verify: () => Promise<{ readonly payload: JWTPayload }>,
): Promise<JWTPayload> {
  try {
    return (await verify()).payload;
  } catch (error) {
    throw error instanceof HostError ? error : jwtRefusal(tenant, rules, error);
  }
}
