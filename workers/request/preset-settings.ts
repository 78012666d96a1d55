/** The PostgreSQL settings that a preset may add to a request's, and those reserved for the host. */
import { HostError } from "../../src/shared/kernel/errors.ts";
import { type RequestScope, type RequestSettings, requestScope } from "./request-scope.ts";

/**
 * Settings that only the host makes, in lower case: role and schemas of a transaction, its seed, those that identify connections,
 * and those that the driver depends on to read answers.
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
  role: "remove it: the role comes from the tenant's record (`roles`) or its token",
  search_path: "remove it: the search path consists of the tenant's schemas",
};

/** `name` as PostgreSQL compares it: without regard to case. */
const folded = (name: string): string => name.toLowerCase();

/** Whether `name`, in any case, is reserved for the host. */
export function isReserved(name: string): boolean {
  return reserved.has(folded(name));
}

/** The error for a setting for which `isReserved` holds. */
export function reservedSetting(name: string): HostError<"SETTING_RESERVED"> {
  const known = folded(name);
  const cure = cures[known] ?? "remove it";
  return new HostError("SETTING_RESERVED", `The setting ${known} is reserved for the host: ${cure}.`);
}

function refuse(name: string): never {
  throw reservedSetting(name);
}

/**
 * The settings of a request whose preset returns `given`: the request's own always win, in whatever case the preset writes their
 * names, and the preset's are added. A value that is no object adds nothing. For each reserved setting `reserve` is called, which
 * by default throws `SETTING_RESERVED`; if it does not throw, the setting is left out. A copy of the request's own role is left
 * out without a call.
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
    // Converted once, because an object may yield another text each time.
    const text = String(value);
    if (isReserved(name)) {
      if (folded(name) !== "role" || text !== own["role"]) reserve(folded(name));
    } else if (!ownNames.has(folded(name))) added.push([name, text]);
  }
  return { ...Object.fromEntries(added), ...own };
}

/** The settings in `given` that a build may make, as names and texts, without the reserved ones. Throws `BUILD_FAILED` for a NUL. */
export function buildSettings(given: unknown): [string, string][] {
  if (typeof given !== "object" || given === null) return [];
  return Object.entries(given).flatMap(([name, value]): [string, string][] => {
    if (value === undefined || value === null || isReserved(name)) return [];
    const text = String(value);
    if (name.includes("\0") || text.includes("\0")) {
      throw new HostError("BUILD_FAILED", "a setting for introspection contains a NUL character");
    }
    return [[name, text]];
  });
}

/** The reserved settings in `given`, in lower case. */
export function reservedIn(given: unknown): string[] {
  if (typeof given !== "object" || given === null) return [];
  return Object.entries(given).flatMap(([name, value]) =>
    value != null && isReserved(name) ? [folded(name)] : [],
  );
}

/** The settings of a context outside any request: a copy without the request's scope. */
export function withoutRequest(given: unknown): RequestSettings {
  const settings: RequestSettings = { ...(typeof given === "object" ? given : {}) };
  delete settings[requestScope];
  return settings;
}
