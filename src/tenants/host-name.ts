/** Normalises host names, so that a Host header and a tenant's record compare by equality. */

/** Characters that the URL parser would take for another part of a URL, or would decode. */
const foreign = /[\s/\\?#@%]/;
const name = /^(?:[a-z0-9_-]+\.)*[a-z0-9_-]+$/;

/**
 * `text` (a Host header or a host in a record) in lower case and punycode, without port and trailing dot; an
 * IPv6 literal keeps its brackets. Undefined if it is not a host.
 */
export function normaliseHost(text: string): string | undefined {
  if (text === "" || text.length > 512 || foreign.test(text)) return undefined;
  const url = URL.parse(`http://${text}`);
  if (url === null) return undefined;
  if (url.hostname.startsWith("[")) return url.hostname;
  const host = url.hostname.endsWith(".") ? url.hostname.slice(0, -1) : url.hostname;
  return host.length <= 253 && name.test(host) ? host : undefined;
}
