/** Which headers and cookies of a request its preset gets to see, beside those that every cell is told of. */

interface RequestHeaders {
  /** In lower case. */
  readonly headers: readonly string[];
  /** Whose case counts. */
  readonly cookies: readonly string[];
}

/** A token of RFC 9110 that begins as names do: `__proto__` is one that is meant for something else. */
const headerName = /^[a-z0-9][a-z0-9!#$%&'*+.^_`|~-]{0,63}$/;
const cookieName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;

/** Of the connection, or of how the message came: they say nothing of who asks, and the host has read them. */
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

/** What is wrong with `entry` of the list; null: nothing. */
export function requestHeaderFault(entry: string): string | null {
  if (entry.startsWith("cookie:")) {
    return cookieName.test(entry.slice("cookie:".length)) ? null : "names no cookie: cookie:NAME";
  }
  if (entry === "cookie") return "would hand over every cookie: name each as cookie:NAME";
  if (entry === "authorization") {
    return "is the host's to verify: presets get the role and the claims, as settings";
  }
  if (transport.has(entry)) return "belongs to the connection, and reaches no preset";
  return headerName.test(entry) ? null : 'must be the name of a header, in lower case, or "cookie:NAME"';
}

/** The entries of the list by what they are; each has to be without fault. */
export function requestHeadersOf(entries: readonly string[]): RequestHeaders {
  const cookies = entries.filter((entry) => entry.startsWith("cookie:"));
  return {
    headers: entries.filter((entry) => !cookies.includes(entry)),
    cookies: cookies.map((entry) => entry.slice("cookie:".length)),
  };
}

/** The names of the headers that a preset finds what the list names in. */
export function headerNamesOf(entries: readonly string[]): string[] {
  const { headers, cookies } = requestHeadersOf(entries);
  return cookies.length === 0 ? [...headers] : [...headers, "cookie"];
}
