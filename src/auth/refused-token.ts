/** The error for a token that is not valid for its tenant, and the reasons by which such errors are counted. */
import { HostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";

export type TokenFault =
  /** Not a bearer token, or too long. */
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
  /** The tenant accepts no tokens. */
  | "not-taken"
  /** Its session function rejected the token. */
  | "unknown-session";

/** `TOKEN_INVALID` for the log; `why` must hold nothing of the token. The client is told only the code. */
export function refusedToken(tenant: TenantId, reason: TokenFault, why: string): HostError {
  return new HostError("TOKEN_INVALID", `tenant ${tenant}: ${why}`, { reason });
}
