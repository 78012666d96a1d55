/** Signs the result of a login function with the secret of the request's tenant. */

import { createSecretKey } from "node:crypto";
import { SafeError } from "postgraphile/grafast";
import type { TokenSigning } from "../../src/shared/model/token-signing.ts";
import { signedForClaim } from "../../src/shared/protocol/signed-for.ts";

/** Signs a token with these claims, named as in PostgreSQL; nulls are left out. */
export type SignToken = (claims: Readonly<Record<string, unknown>>) => Promise<string>;

/**
 * A signer for `tenant` alone: audience, issuer and the tenant's claim are always its own, whatever the function returns.
 * `signing` is the JSON of a TokenSigning. The returned function can sign, but does not reveal the secret. It throws
 * `TOKEN_UNSIGNED` if no secret is set.
 */
export function tokenSigner(tenant: string, signing: string | null): SignToken {
  if (signing === null) {
    return async () => {
      throw new SafeError("This tenant's tokens cannot be signed: jwt.secret is not set.", {
        code: "TOKEN_UNSIGNED",
      });
    };
  }
  return async (claims) => {
    const rules: TokenSigning = JSON.parse(signing);
    const { secret, algorithm, audience, issuer, tenantClaim, expiresInSeconds } = rules;
    // Loaded for the first token signed in this thread, where it takes 2 MB.
    const { SignJWT } = await import("jose");
    const now = Math.floor(Date.now() / 1_000);
    const own = {
      ...Object.fromEntries(
        Object.entries(claims).filter(([, value]) => value !== null && value !== undefined),
      ),
      iat: now,
      exp: secondsOf(claims["exp"]) ?? now + expiresInSeconds,
      aud: audience,
    };
    const notBefore = secondsOf(claims["nbf"]);
    return await new SignJWT({
      ...own,
      ...(notBefore === undefined ? {} : { nbf: notBefore }),
      ...(issuer === null ? {} : { iss: issuer }),
      ...(tenantClaim === null ? {} : { [tenantClaim]: tenant }),
      [signedForClaim]: tenant,
    })
      .setProtectedHeader({ alg: algorithm, typ: "JWT" })
      .sign(createSecretKey(secret, "utf8"));
  };
}

/** Seconds since 1970. PostgreSQL's bigint and numeric arrive as text. Throws if `value` is no such number. */
function secondsOf(value: unknown): number | undefined {
  if (value === null || value === undefined) return undefined;
  const seconds = Math.floor(Number(value));
  if (Number.isSafeInteger(seconds) && seconds > 0) return seconds;
  throw new Error("a login function returned an exp or nbf that is not a time in seconds since 1970");
}
