/** Environment variables and options that override the config file. */
import type { Fault } from "../validation/config-error.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A value for one config key, and the variable or option that it came from. */
export interface Override {
  readonly path: readonly string[];
  readonly value: unknown;
  readonly from: string;
}

/** Parses a variable's text; undefined if it is invalid. */
type Reader = (text: string) => unknown;

interface Variable {
  readonly path: readonly string[];
  readonly read: Reader;
  readonly expected: string;
}

const asText: Reader = (text) => text;

const asWholeNumber: Reader = (text) => (/^\d{1,15}$/.test(text) ? Number(text) : undefined);

const asMegabytes: Reader = (text) => {
  const bytes = asWholeNumber(text);
  return typeof bytes === "number" ? Math.ceil(bytes / 2 ** 20) : undefined;
};

const asBoolean: Reader = (text) => {
  if (/^(?:1|true|yes|on)$/i.test(text)) return true;
  return /^(?:0|false|no|off)$/i.test(text) ? false : undefined;
};

const wholeNumber = "a whole number";
const variables: Readonly<Record<string, Variable>> = {
  DATABASE_URL: { path: ["databases", "main", "url"], read: asText, expected: "a URL" },
  PORT: { path: ["listen", "port"], read: asWholeNumber, expected: wholeNumber },
  ROWHOUSE_ADMIN_TOKEN: { path: ["admin", "token"], read: asText, expected: "a token" },
  GRAPHILE_BLUEPRINT_POOLING: { path: ["pooling"], read: asBoolean, expected: "1 or 0" },
  GRAPHILE_CACHE_MAX: { path: ["cells", "instances"], read: asWholeNumber, expected: wholeNumber },
  GRAPHILE_CACHE_INSTANCE_HEAP_BYTES: {
    path: ["cells", "instanceHeapMb"],
    read: asMegabytes,
    expected: "a number of bytes",
  },
  GRAPHILE_CACHE_TTL_MS: { path: ["cells", "idleTtl"], read: asWholeNumber, expected: "milliseconds" },
  GRAPHILE_CACHE_DRAIN_TIMEOUT_MS: {
    path: ["cells", "drainTimeout"],
    read: asWholeNumber,
    expected: "milliseconds",
  },
  GRAPHILE_BUILD_CONCURRENCY: { path: ["builds", "concurrency"], read: asWholeNumber, expected: wholeNumber },
  GRAPHILE_GRAPHIQL: { path: ["graphiql"], read: asBoolean, expected: "1 or 0" },
};

/** The overrides in `env`, and a fault for each variable that cannot be parsed, or is set but empty. */
export function environmentOverrides(env: Environment): { overrides: Override[]; faults: Fault[] } {
  const overrides: Override[] = [];
  const faults: Fault[] = [];
  for (const [name, { path, read, expected }] of Object.entries(variables)) {
    const text = env[name];
    if (text === undefined) continue;
    const value = text === "" ? undefined : read(text.trim());
    if (value === undefined) faults.push({ path: name, message: `must be ${expected} or unset` });
    else overrides.push({ path, value, from: name });
  }
  return { overrides, faults };
}

/**
 * V8 treats dashes and underscores alike, and Node applies `NODE_OPTIONS` to every thread. Measured on 24.21
 * with a thread of 64 + 16 MB, whose limit is 88 MB: 724 with --max-old-space-size=700, 256 with
 * --max-semi-space-size=64.
 */
const heapOption =
  /(?:^|[\s"'])(--max[-_](?:old[-_]space[-_]size(?:[-_]percentage)?|semi[-_]space[-_]size|heap[-_]size))(?=[\s"'=]|$)/;

/** Faults if the process was started with a heap limit: it would override the limit of every thread. */
export function heapLimitFaults(env: Environment, execArgv: readonly string[]): Fault[] {
  const options = { NODE_OPTIONS: env["NODE_OPTIONS"] ?? "", "node's command line": execArgv.join(" ") };
  return Object.entries(options).flatMap(([path, text]) => {
    const option = heapOption.exec(text)?.[1];
    if (option === undefined) return [];
    const message =
      `${option} overrides the heap limit of every worker thread, so no cell could be kept within its budget: ` +
      "remove it, and size cells.heapMb, cells.youngMb and cells.memoryMb instead";
    return [{ path, message }];
  });
}

/** A copy of `raw` with the override applied; unchanged if a value other than an object is in the way. */
export function applyOverride(raw: unknown, { path, value }: Override): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  if (raw !== undefined && (typeof raw !== "object" || raw === null || Array.isArray(raw))) return raw;
  const record: Readonly<Record<string, unknown>> = { ...raw };
  return { ...record, [key]: applyOverride(record[key], { path: rest, value, from: "" }) };
}
