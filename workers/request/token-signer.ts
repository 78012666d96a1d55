/** Signs what a login function returned with the secret of the request's tenant. */
import { createSecretKey } from "node:crypto";
import { SafeError } from "postgraphile/grafast";
import type { TokenSigning } from "../../src/shared/protocol/messages.ts";
import { signedForClaim } from "../../src/shared/protocol/signed-for.ts";

/** A signed token of these claims, names as in PostgreSQL; nulls are left out. */
export type SignToken = (claims: Readonly<Record<string, unknown>>) => Promise<string>;

/**
 * Signs for `tenant` and nobody else: audience, issuer and the tenant's claim are always its own, whatever the function
 * says. `signing` is the JSON of a TokenSigning. What is returned can sign, but not tell the secret.
 */
export function tokenSigner(tenant: string, signing: string | null): SignToken {
  if (signing === null) {
    return async () => {
      throw new SafeError("Tokens of this tenant are not signed here: jwt.secret is not set.", {
        code: "TOKEN_UNSIGNED",
      });
    };
  }
  return async (claims) => {
    const rules: TokenSigning = JSON.parse(signing);
    const { secret, algorithm, audience, issuer, tenantClaim, expiresInSeconds } = rules;
    // Loaded for the first token that is signed here: 2 MB of each thread.
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

/** PostgreSQL's bigint and numeric arrive as text. */
function secondsOf(value: unknown): number | undefined {
  if (value === null || value === undefined) return undefined;
  const seconds = Math.floor(Number(value));
  if (Number.isSafeInteger(seconds) && seconds > 0) return seconds;
  throw new Error("a login function gave an exp or nbf that is not in seconds since 1970");
}
