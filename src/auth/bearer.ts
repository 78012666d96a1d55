/** The token in an Authorization header. */
import { HostError } from "../kernel/errors.ts";

/** Node takes 16 kB of headers in all; a token of half of that is no sensible one. */
const longest = 8_192;

/** RFC 6750, 2.1: the scheme in any case, then a `b64token`. A JWT is one. */
const pattern = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/** The token in `header`; throws `TOKEN_INVALID` for any other scheme and for what is no token. No message repeats it. */
export function bearerToken(header: string): string {
  const token = header.length > longest ? undefined : pattern.exec(header)?.[1];
  if (token === undefined)
    throw new HostError("TOKEN_INVALID", "the Authorization header has no bearer token");
  return token;
}
