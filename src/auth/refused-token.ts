/** The one error for a token that is not good for its tenant, and the words by which its reasons are counted. */
import { HostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";

export type TokenFault =
  /** Not a bearer token, or longer than any. */
  | "scheme"
  | "malformed"
  | "unsupported"
  | "algorithm"
  | "signature"
  | "unknown-kid"
  | "no-kid"
  | "no-aud"
  | "wrong-aud"
  | "no-iss"
  | "wrong-iss"
  | "not-yet"
  | "time"
  | "other-tenant"
  | "no-role"
  | "role-not-listed"
  | "claims"
  /** The tenant takes no tokens. */
  | "not-taken"
  /** Its session function says no. */
  | "unknown-session";

/** `TOKEN_INVALID` for the log: `why` holds nothing of the token. The client is told the code alone. */
export function refusedToken(tenant: TenantId, reason: TokenFault, why: string): HostError {
  return new HostError("TOKEN_INVALID", `tenant ${tenant}: ${why}`, { reason });
}
