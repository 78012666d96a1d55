/** Which request headers and cookies a preset may see, beyond those that every cell receives. */

interface RequestHeaders {
  /** In lower case. */
  readonly headers: readonly string[];
  /** Case-sensitive. */
  readonly cookies: readonly string[];
}

/** A token of RFC 9110 that starts with a letter or digit, which excludes `__proto__`. */
const headerName = /^[a-z0-9][a-z0-9!#$%&'*+.^_`|~-]{0,63}$/;
const cookieName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;

/**
 * Headers about the connection or the transfer: they say nothing about the client, and the host has already
 * processed them.
 */
const transport: ReadonlySet<string> = new Set([
  "connection",
  "content-encoding",
  "content-length",
  "expect",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** What is wrong with an entry of the list; null: nothing. */
export function requestHeaderFault(entry: string): string | null {
  if (entry.startsWith("cookie:")) {
    return cookieName.test(entry.slice("cookie:".length)) ? null : "must name a cookie: cookie:NAME";
  }
  if (entry === "cookie") return "would expose every cookie: list each as cookie:NAME";
  if (entry === "authorization") {
    return "is verified by the host: presets receive the role and the claims as settings";
  }
  if (entry.startsWith("rowhouse-")) return "is the host's own";
  if (transport.has(entry)) return "belongs to the connection and is never passed to a preset";
  return headerName.test(entry) ? null : 'must be a header name in lower case, or "cookie:NAME"';
}

/** Splits the list's entries into headers and cookies; they must be free of faults. */
export function requestHeadersOf(entries: readonly string[]): RequestHeaders {
  const cookies = entries.filter((entry) => entry.startsWith("cookie:"));
  return {
    headers: entries.filter((entry) => !cookies.includes(entry)),
    cookies: cookies.map((entry) => entry.slice("cookie:".length)),
  };
}

/** The names of the headers in which the preset finds what the list names. */
export function headerNamesOf(entries: readonly string[]): string[] {
  const { headers, cookies } = requestHeadersOf(entries);
  return cookies.length === 0 ? [...headers] : [...headers, "cookie"];
}
