/**
 * Parses a connection string as libpq does: several hosts, PG* variables for what is left out, and TLS by
 * `sslmode`.
 */
import { HostError } from "../kernel/errors.ts";

export const sessionAttributes = [
  "any",
  "read-write",
  "read-only",
  "primary",
  "standby",
  "prefer-standby",
] as const;
/** https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS */
export type SessionAttributes = (typeof sessionAttributes)[number];

export const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
/** https://www.postgresql.org/docs/18/libpq-ssl.html#LIBPQ-SSL-PROTECTION */
export type SslMode = (typeof sslModes)[number];

export interface TlsRules {
  readonly mode: SslMode;
  /** A file, `system`, or null for the default. */
  readonly rootCert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly keyPassword: string | null;
  readonly direct: boolean;
}

export interface HostPlace {
  /** A name, an address, or the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
}

export interface ConnectionTarget {
  readonly hosts: readonly HostPlace[];
  readonly attributes: SessionAttributes;
  readonly tls: TlsRules;
  readonly channelBinding: boolean;
  /**
   * The connection string for one of the hosts as node-postgres parses it, without the parameters handled
   * here. It contains secrets.
   */
  urlOf(place: HostPlace): string;
}

/** Parameters that are parsed here; node-postgres parses the rest. */
const ownParameters = [
  "host",
  "port",
  "target_session_attrs",
  "sslmode",
  "ssl",
  "sslrootcert",
  "sslcert",
  "sslkey",
  "sslpassword",
  "sslnegotiation",
  "channel_binding",
  "uselibpqcompat",
] as const;
type OwnParameter = (typeof ownParameters)[number];

/**
 * Parameters that node-postgres would silently ignore although they restrict or change what the connection
 * accepts or reaches.
 */
const unsupported = ["hostaddr", "service", "sslcrl", "sslcrldir", "requirepeer", "require_auth"];

export type ConnectionEnvironment = Readonly<Record<string, string | undefined>>;

/**
 * Parses `url`, with `env` for what it leaves out. Throws `CONFIG_INVALID` with the reason; the messages
 * never repeat the URL, which contains a password. Certificate files are not opened here.
 */
export function parseConnectionUrl(url: string, env: ConnectionEnvironment): ConnectionTarget {
  const [, authority, path = "", query = ""] =
    /^postgres(?:ql)?:\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?(?:#.*)?$/s.exec(url) ?? [];
  if (authority === undefined || url.includes("\0")) {
    throw invalid(
      "must be a postgres:// or postgresql:// URL (a user or password with special characters percent-encoded)",
    );
  }
  const at = authority.lastIndexOf("@");
  const user = authority.slice(0, at + 1);
  const { own, rest } = parametersOf(query);
  const hosts = hostsOf(authority.slice(at + 1), own, env);
  const named = own.get("target_session_attrs") ?? (env["PGTARGETSESSIONATTRS"] || "any");
  return {
    hosts,
    attributes: oneOf(sessionAttributes, "target_session_attrs", named),
    tls: tlsOf(own, env),
    channelBinding: (own.get("channel_binding") ?? env["PGCHANNELBINDING"]) === "require",
    urlOf({ host, port }) {
      const socket = host.startsWith("/") ? [`host=${encodeURIComponent(host)}`] : [];
      const place = socket.length > 0 ? "" : host.includes(":") ? `[${host}]` : host;
      // `new URL` accepts neither a port nor a user without a host.
      const parameters = [...socket, ...rest].join("&");
      return `postgres://${user}${place === "" ? "localhost" : place}:${port}${path}${parameters === "" ? "" : `?${parameters}`}`;
    },
  };
}

function parametersOf(query: string): { own: Map<OwnParameter, string>; rest: string[] } {
  const own = new Map<OwnParameter, string>();
  const rest: string[] = [];
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const [rawName = "", ...rawValue] = pair.split("=");
    const name = decoded(rawName);
    const known = ownParameters.find((each) => each === name);
    if (unsupported.includes(name)) throw invalid(`${name} is not supported`);
    if (known === undefined) rest.push(pair);
    else own.set(known, decoded(rawValue.join("=")));
  }
  return { own, rest };
}

function hostsOf(
  hostList: string,
  own: ReadonlyMap<OwnParameter, string>,
  env: ConnectionEnvironment,
): readonly HostPlace[] {
  const written = hostList.split(",").map((each) => {
    const [, bracketed, plain = "", port = ""] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?$/.exec(each) ?? [
      "",
      undefined,
      undefined,
      "none",
    ];
    if (port === "none") throw invalid("a host or its port is not valid (an IPv6 address needs brackets)");
    return { host: decoded(bracketed ?? plain), port };
  });
  const names = own.get("host") ?? written.map(({ host }) => host).join(",");
  const ports = own.get("port") ?? written.map(({ port }) => port).join(",");
  const hosts = listOf(names) ?? listOf(env["PGHOST"]) ?? ["localhost"];
  const given = listOf(ports) ?? listOf(env["PGPORT"]) ?? ["5432"];
  if (given.length > 1 && given.length !== hosts.length) {
    throw invalid(`there are ${given.length} ports for ${hosts.length} hosts: give one for all, or one each`);
  }
  return hosts.map((host, index) => ({
    host: host === "" ? "localhost" : host,
    port: portOf((given.length === 1 ? given[0] : given[index]) ?? ""),
  }));
}

/** Undefined if the list is empty apart from commas. */
function listOf(text: string | undefined): readonly string[] | undefined {
  return text === undefined || /^,*$/.test(text) ? undefined : text.split(",").map((each) => each.trim());
}

function portOf(text: string): number {
  const port = text === "" ? 5432 : Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw invalid("a port must be a number from 1 to 65535");
}

function tlsOf(own: ReadonlyMap<OwnParameter, string>, env: ConnectionEnvironment): TlsRules {
  const of = (name: OwnParameter, variable: string): string | null => own.get(name) || env[variable] || null;
  const rootCert = of("sslrootcert", "PGSSLROOTCERT");
  const direct = of("sslnegotiation", "PGSSLNEGOTIATION") === "direct";
  const named = modeOf(own) ?? (env["PGSSLMODE"] || null);
  const fallback = rootCert === "system" ? "verify-full" : direct ? "require" : "prefer";
  const mode = oneOf(sslModes, "sslmode", named === "no-verify" ? "require" : (named ?? fallback));
  if (rootCert === "system" && mode !== "verify-full") {
    throw invalid(
      `sslmode=${mode} may not be used with sslrootcert=system, because any publicly trusted certificate would be accepted: use sslmode=verify-full`,
    );
  }
  if (direct && ["disable", "allow", "prefer"].includes(mode)) {
    throw invalid(`sslnegotiation=direct needs sslmode=require or more, not ${mode}`);
  }
  return {
    mode,
    // `no-verify` is node-postgres's own value: encrypt without verifying the server.
    rootCert: named === "no-verify" ? null : rootCert,
    cert: of("sslcert", "PGSSLCERT"),
    key: of("sslkey", "PGSSLKEY"),
    keyPassword: own.get("sslpassword") || null,
    direct,
  };
}

/** `ssl` is node-postgres's own parameter. */
function modeOf(own: ReadonlyMap<OwnParameter, string>): string | null {
  const mode = own.get("sslmode");
  if (mode !== undefined && mode !== "") return mode;
  switch (own.get("ssl")) {
    case "true":
    case "1":
      return "verify-full";
    case "0":
    case "false":
      return "disable";
    case "no-verify":
      return "no-verify";
    default:
      return null;
  }
}

function oneOf<Word extends string>(words: readonly Word[], name: string, text: string): Word {
  const found = words.find((word) => word === text);
  if (found === undefined)
    throw invalid(`${name} must be ${words.slice(0, -1).join(", ")} or ${words.at(-1)}`);
  return found;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid("a percent sign is not followed by two hexadecimal digits");
  }
}

function invalid(message: string): HostError<"CONFIG_INVALID"> {
  return new HostError("CONFIG_INVALID", message);
}
