/** How the host signs the tokens that a tenant's login functions return. */
import type { TokenSigning } from "../shared/model/token-signing.ts";
import type { Tenant } from "../tenants/tenant.ts";

/** Null if the tenant has no secret: a public key cannot sign. A signed token verifies for this tenant alone. */
export function tokenSigning({ jwt }: Tenant): TokenSigning | null {
  if (jwt === null || jwt.key.kind !== "secret") return null;
  const { key, algorithms, audience, issuer, tenantClaim, expiresInMs } = jwt;
  const [algorithm] = algorithms;
  const [first] = audience;
  if (algorithm === undefined || first === undefined) return null;
  return {
    secret: key.secret,
    algorithm,
    audience: first,
    issuer: issuer[0] ?? null,
    tenantClaim,
    expiresInSeconds: Math.floor(expiresInMs / 1_000),
  };
}
