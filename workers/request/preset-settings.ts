/** The PostgreSQL settings that a preset may add to a request's, and those that are the host's alone. */
import { HostError } from "../../src/shared/kernel/errors.ts";
import { type RequestScope, type RequestSettings, requestScope } from "./request-scope.ts";

/**
 * Settings that the host makes itself, in lower case: whom a transaction runs as and in which schemas, its seed, what connections are
 * told apart and found again by, and what the driver reads answers by.
 */
const reserved: ReadonlySet<string> = new Set([
  "role",
  "search_path",
  "session_authorization",
  "seed",
  "application_name",
  "client_connection_check_interval",
  "client_encoding",
]);

const cures: Readonly<Record<string, string>> = {
  role: "leave it out: the role is the tenant's (`roles` in its record), or the one that its token names",
  search_path: "leave it out: the path is made of the tenant's schemas",
};

/** `name` as PostgreSQL compares it, which is without case. */
const folded = (name: string): string => name.toLowerCase();

/** Whether `name`, in whatever case, is a setting of the host's. */
export function isReserved(name: string): boolean {
  return reserved.has(folded(name));
}

/** The refusal of a setting for which `isReserved` holds. */
export function reservedSetting(name: string): HostError<"SETTING_RESERVED"> {
  const known = folded(name);
  const cure = cures[known] ?? "leave it out";
  return new HostError("SETTING_RESERVED", `The setting ${known} is the host's: ${cure}.`);
}

function refuse(name: string): never {
  throw reservedSetting(name);
}

/**
 * The settings of a request whose preset gives `given`: the request's own stand, whatever case the preset writes their names in, and the
 * preset's come beside them. What is no object adds nothing. What is the host's to set is left out where `reserve`, which is told of it,
 * does not throw; unless told otherwise that is `SETTING_RESERVED`. A copy of the request's own role is nothing to be told of.
 */
export function withRequestSettings(
  given: unknown,
  { settings: own }: RequestScope,
  reserve: (name: string) => void = refuse,
): RequestSettings {
  if (given === own || typeof given !== "object" || given === null) return { ...own };
  const ownNames = new Set(Object.keys(own).map(folded));
  const added: [string, string][] = [];
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    // Once: an object may be another text each time.
    const text = String(value);
    if (isReserved(name)) {
      if (folded(name) !== "role" || text !== own["role"]) reserve(folded(name));
    } else if (!ownNames.has(folded(name))) added.push([name, text]);
  }
  return { ...Object.fromEntries(added), ...own };
}

/** What of settings for a build may be made there, as names and texts; the host's own are left out. Throws `BUILD_FAILED` for a NUL. */
export function buildSettings(given: unknown): [string, string][] {
  if (typeof given !== "object" || given === null) return [];
  return Object.entries(given).flatMap(([name, value]): [string, string][] => {
    if (value === undefined || value === null || isReserved(name)) return [];
    const text = String(value);
    if (name.includes("\0") || text.includes("\0")) {
      throw new HostError("BUILD_FAILED", "a setting for introspection holds a NUL character");
    }
    return [[name, text]];
  });
}

/** The host's own among the settings in `given`, in lower case. */
export function reservedIn(given: unknown): string[] {
  if (typeof given !== "object" || given === null) return [];
  return Object.entries(given).flatMap(([name, value]) =>
    value != null && isReserved(name) ? [folded(name)] : [],
  );
}

/** The settings of a context outside of any request: none of a request's go with them. */
export function withoutRequest(given: unknown): RequestSettings {
  const settings: RequestSettings = { ...(typeof given === "object" ? given : {}) };
  delete settings[requestScope];
  return settings;
}
