/** Explains why a token was rejected, in our own words: messages of libraries and databases may quote the token. */
import { errors } from "jose";
import { HostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import type { JwtRules } from "../tenants/jwt-config.ts";
import { refusedToken } from "./refused-token.ts";

/**
 * Converts an error that jose threw for a token. Its messages and causes contain headers and claims, and go
 * no further.
 */
export function jwtRefusal(tenant: TenantId, rules: JwtRules, error: unknown): HostError {
  if (error instanceof errors.JWTExpired) {
    return new HostError("TOKEN_EXPIRED", `tenant ${tenant}: the token has expired`);
  }
  if (error instanceof errors.JWKSInvalid || error instanceof errors.JWKSTimeout) {
    const what = error instanceof errors.JWKSTimeout ? "fetching the JWKS timed out" : "the JWKS is invalid";
    return new HostError("TOKEN_UNVERIFIABLE", `tenant ${tenant}: ${what}`);
  }
  if (error instanceof errors.JWTClaimValidationFailed) return claimRefusal(tenant, rules, error);
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return refusedToken(tenant, "signature", "the signature was not made with the tenant's key");
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    const allowed = rules.algorithms.join(", ");
    return refusedToken(tenant, "algorithm", `the token's algorithm is not in jwt.algorithms (${allowed})`);
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return refusedToken(tenant, "unknown-kid", "the JWKS has no key with the token's kid and algorithm");
  }
  if (error instanceof errors.JWKSMultipleMatchingKeys) {
    return refusedToken(tenant, "no-kid", "the token has no kid, and several keys of the JWKS match");
  }
  if (error instanceof errors.JOSENotSupported) {
    return refusedToken(tenant, "unsupported", "the token uses an unsupported extension or algorithm");
  }
  if (error instanceof errors.JOSEError) return refusedToken(tenant, "malformed", "the token is not a JWT");
  // jose cannot use the key with that algorithm.
  return refusedToken(tenant, "algorithm", "the tenant's key cannot be used with the token's algorithm");
}

function claimRefusal(
  tenant: TenantId,
  { audience, issuer }: JwtRules,
  { claim, reason }: { readonly claim: string; readonly reason: string },
): HostError {
  const missing = reason === "missing";
  switch (claim) {
    case "aud": {
      const wanted = `jwt.audience (${audience.join(", ")})`;
      return missing
        ? refusedToken(tenant, "no-aud", `the token has no aud, but must have one of ${wanted}`)
        : refusedToken(tenant, "wrong-aud", `the token's aud is not in ${wanted}`);
    }
    case "iss": {
      const wanted = `jwt.issuer (${issuer.join(", ")})`;
      return missing
        ? refusedToken(tenant, "no-iss", `the token has no iss, but must have one of ${wanted}`)
        : refusedToken(tenant, "wrong-iss", `the token's iss is not in ${wanted}`);
    }
    case "nbf":
      if (reason === "check_failed") {
        return refusedToken(
          tenant,
          "not-yet",
          "the token's nbf is in the future: check the clocks, or set clockTolerance",
        );
      }
      return refusedToken(tenant, "time", "the token's nbf is not a number of seconds");
    case "exp":
    case "iat":
      return refusedToken(tenant, "time", `the token's ${claim} is not a number of seconds`);
    default:
      return refusedToken(tenant, "claims", "a registered claim of the token is invalid");
  }
}
