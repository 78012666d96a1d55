/** Normalises host names, so that a Host header and a tenant's record compare by equality. */

/** Characters that the URL parser would take for another part of a URL, or would decode. */
const foreign = /[\s/\\?#@%]/;
const name = /^(?:[a-z0-9_-]+\.)*[a-z0-9_-]+$/;
/** A name whose last label is no number, or an IPv4 address of four decimal numbers; either with or without a port. */
const plain =
  /^(?:(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*|(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))(?::(?:\d{1,4}|[1-5]\d{4}))?$/;

/**
 * Whether the URL parser would leave the host of `text` as it is, and accept its port. Nearly all Host headers are of this kind, and
 * parsing a URL takes several microseconds.
 */
export function isPlainHost(text: string): boolean {
  return text.length <= 253 && plain.test(text) && !text.includes("xn--");
}

/**
 * `text` (a Host header or a host in a record) in lower case and punycode, without port and trailing dot; an
 * IPv6 literal keeps its brackets. Undefined if it is not a host.
 */
export function normaliseHost(text: string): string | undefined {
  if (isPlainHost(text)) {
    const colon = text.indexOf(":");
    return colon === -1 ? text : text.slice(0, colon);
  }
  if (text === "" || text.length > 512 || foreign.test(text)) return undefined;
  const url = URL.parse(`http://${text}`);
  if (url === null) return undefined;
  if (url.hostname.startsWith("[")) return url.hostname;
  const host = url.hostname.endsWith(".") ? url.hostname.slice(0, -1) : url.hostname;
  return host.length <= 253 && name.test(host) ? host : undefined;
}
