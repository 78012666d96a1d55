/** Reads and checks a request's head. What two readers could read differently is refused, not repaired. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { HostError } from "../shared/kernel/errors.ts";
import { isPlainHost } from "../tenants/host-name.ts";
import type { RequestFacts } from "../tenants/router.ts";
import { acceptedTypes } from "./accept.ts";

/** A registered name, an IPv4 address or a bracketed IPv6 address, and a port. No user, path, list or raw non-ASCII. */
const hostPattern = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::\d{0,5})?$/;

/**
 * In a path: empty and dot segments (also encoded), encoded NUL, slash and backslash, broken percent signs. Proxies normalise
 * each of these in their own way, so a proxy's access rule could be evaded.
 */
const confusingPath = /\/\/|\/(?:\.|%2e){1,2}(?:\/|$)|%(?:00|2f|5c)|%(?![0-9a-f]{2})/i;
/** In the whole target: anything but visible ASCII, a backslash, a fragment. */
const foreignCharacter = /[^\x21-\x7e]|[\\#]/;

/** The pattern that Node uses. */
const goOn = /(?:^|\W)100-continue(?:$|\W)/i;

const badRequest = (message: string): HostError => new HostError("BAD_REQUEST", message);

/**
 * The facts of `incoming`. Throws `BAD_REQUEST` for a target that is not a plain path (absolute form, `*`, ambiguous paths), for a
 * Host header that is missing, repeated or not a host, and for a repeated Authorization header; `EXPECTATION_FAILED` for an Expect header
 * other than 100-continue. `remoteAddress` is the connection's by default.
 */
export function readFacts(
  incoming: IncomingMessage,
  remoteAddress: string | null = incoming.socket.remoteAddress ?? null,
): RequestFacts {
  const { url: target = "", method = "" } = incoming;
  const { expect } = incoming.headers;
  if (expect !== undefined && !goOn.test(expect)) throw new HostError("EXPECTATION_FAILED");
  if (!target.startsWith("/")) throw badRequest("The request target must be a path.");
  if (foreignCharacter.test(target))
    throw badRequest("The request target contains a character that is not allowed.");
  const mark = target.indexOf("?");
  const path = mark === -1 ? target : target.slice(0, mark);
  if (confusingPath.test(path)) throw badRequest("The path is ambiguous.");
  if (incoming.headers.authorization !== undefined && !isSingle(incoming.rawHeaders, "authorization")) {
    throw badRequest("More than one Authorization header.");
  }
  return {
    method,
    path,
    query: mark === -1 ? "" : target.slice(mark + 1),
    host: readHost(incoming),
    header: (name) => readHeader(incoming, name),
    remoteAddress,
  };
}

function readHost({ rawHeaders, headers }: IncomingMessage): string {
  const { host } = headers;
  if (host === undefined || !isSingle(rawHeaders, "host")) {
    throw badRequest("Exactly one Host header is required.");
  }
  if (!isPlainHost(host) && !(hostPattern.test(host) && URL.canParse(`http://${host}`))) {
    throw badRequest("The Host header is not a valid host.");
  }
  return host;
}

/**
 * Whether a header was sent exactly once. Node's `headers` does not tell: it keeps the first of several Host or Authorization headers, and
 * joins others.
 */
export function isSingle(rawHeaders: readonly string[], lowerName: string): boolean {
  let seen = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === lowerName.length && name.toLowerCase() === lowerName) seen += 1;
  }
  return seen === 1;
}

function readHeader({ headers }: IncomingMessage, name: string): string | null {
  const lowerName = name.toLowerCase();
  const value = Object.hasOwn(headers, lowerName) ? headers[lowerName] : undefined;
  return typeof value === "string" ? value : null;
}

/** What a cell needs for content negotiation and GraphiQL's assets; no credentials. */
const forwarded = [
  "accept",
  "accept-encoding",
  "accept-language",
  "content-type",
  "if-none-match",
  "origin",
  "user-agent",
  "x-apollo-operation-name",
] as const;

/** The headers that every cell gets. Throws `BAD_REQUEST` if one cannot be understood. */
export function forwardedHeaders({ headers }: IncomingMessage): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const name of forwarded) {
    const value = headers[name];
    const read = typeof value === "string" && name === "accept" ? acceptedTypes(value) : value;
    if (typeof read === "string") picked[name] = read;
  }
  return picked;
}

const mediaTypes = new Set(["application/json", "application/graphql"]);

/** Throws `MEDIA_TYPE` unless the body is of an accepted type, by default JSON or GraphQL, and `BAD_REQUEST` if it is compressed. */
export function requireMediaType(
  { headers }: IncomingMessage,
  accepted: ReadonlySet<string> = mediaTypes,
): void {
  const type = headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (!accepted.has(type)) {
    throw new HostError("MEDIA_TYPE", `The Content-Type must be ${[...accepted].join(" or ")}.`);
  }
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") throw badRequest("A compressed request body is not supported.");
}

/** Whether the head announces a body. */
export function announcesBody({ headers }: IncomingMessage): boolean {
  const length = headers["content-length"];
  return headers["transfer-encoding"] !== undefined || (length !== undefined && Number(length) !== 0);
}

/** Whether the client asks to switch to a WebSocket. Offers of other protocols (`h2c`) may be ignored. */
export function opensWebSocket({ headers }: IncomingMessage): boolean {
  return headers.upgrade !== undefined && /(?:^|[\s,])websocket(?:$|[\s,/])/i.test(headers.upgrade);
}

/** At most 128 characters that need no quoting wherever a request id ends up: headers, JSON, log lines, shell commands. */
const requestIdPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The id that a proxy has given the request, if it is harmless; otherwise a random one. */
export function readRequestId({ headers }: IncomingMessage): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && requestIdPattern.test(given) ? given : randomUUID();
}
