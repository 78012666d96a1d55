/** The token in an Authorization header. */
import type { TenantId } from "../shared/kernel/ids.ts";
import { refusedToken } from "./refused-token.ts";

/** Maximum token length. Node accepts 16 kB of headers in all; no sensible token takes half of that. */
const longest = 8_192;

/** RFC 6750, section 2.1: the scheme in any case, then a `b64token`, which every JWT is. */
const pattern = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/**
 * The token in `header`; throws `TOKEN_INVALID` for any other scheme or a malformed token. No message repeats
 * it.
 */
export function bearerToken(tenant: TenantId, header: string): string {
  const token = header.length > longest ? undefined : pattern.exec(header)?.[1];
  if (token === undefined) throw refusedToken(tenant, "scheme", schemeFault(header));
  return token;
}

function schemeFault(header: string): string {
  if (header.length > longest) return `the Authorization header is longer than ${longest} characters`;
  return /^Bearer(?:\s|$)/i.test(header)
    ? "the Authorization header has no valid token after Bearer"
    : "the Authorization header does not use the Bearer scheme";
}
