/** Turns an observation into a log line: a level, a text and its figures. */
import { codeOf, errorTable, messageOf } from "../shared/kernel/errors.ts";
import { excerpt, excerptOfStack } from "../shared/kernel/excerpt.ts";
import type { PatchState } from "../shared/kernel/patch-policy.ts";
import type { Observation } from "./observation.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LogLine {
  readonly level: LogLevel;
  readonly text: string;
}

const line = (level: LogLevel, text: string): LogLine => ({ level, text });

const requestLine = line("debug", "request");

/** Lines whose level and text are constant. A kind that is neither here nor in `describe` does not compile. */
const constant = {
  "host.plan": line("info", "memory plan"),
  "host.warning": line("warn", "warning"),
  "log.dropped": line("warn", "log lines were dropped"),
  "config.warning": line("warn", "config"),
  "http.error": line("error", "a connection could not be accepted"),
  "request.retried": line("info", "request retried"),
  "tenant.changed": line("info", "tenant cache entry invalidated"),
  "tenant.migrated": line("info", "tenant migrated"),
  "tenant.quarantined": line("warn", "tenant quarantined: it uses more than its share"),
  "tenant.released": line("info", "tenant released from quarantine"),
  "schema.read": line("debug", "schema read"),
  "notices.read": line("debug", "revisions read"),
  "look.found": line("info", "found schema changes that were not notified"),
  "realtime.polled": line("debug", "events read"),
  "realtime.run": line("debug", "operation run for subscribers"),
  "realtime.closed": line("debug", "WebSocket closed"),
  "realtime.gap": line("warn", "events may have been missed"),
  // There is one a second per cell; the metrics count them.
  "guard.checked": line("debug", "guard checked"),
  "connections.renewed": line("debug", "connections renewed"),
  "guard.failed": line("info", "the schema had changed"),
  "guard.exhausted": line("warn", "the schema kept changing"),
  "cell.started": line("info", "cell started"),
  "cell.condemned": line("warn", "cell condemned"),
  "cell.error": line("error", "cell error"),
  "build.started": line("info", "build started"),
  "build.done": line("info", "build done"),
  "instance.measured": line("debug", "instance measured"),
  "instance.evicted": line("info", "instance evicted"),
  "database.lost": line("error", "database lost"),
  "database.pooled": line(
    "info",
    "a pooler was detected in front of the database: session state is not relied on",
  ),
} satisfies Partial<Record<Observation["kind"], LogLine>>;

/** The level and text of `observation`; `figuresOf` returns its figures. */
export function describe(observation: Observation): LogLine {
  switch (observation.kind) {
    // First, because nearly all observations are requests: this saves 50 ns over the look-up.
    case "request.done":
      return requestLine;
    case "host.phase":
      return line("info", `host ${observation.phase}`);
    case "host.config":
      return line("info", observation.file === null ? "config from the environment" : "config read");
    case "host.listening":
      return line("info", `${observation.name} listener ready`);
    case "host.error":
      return line("error", observation.fatal ? "uncaught error, the host exits" : "uncaught error");
    case "patch.state":
      return line(
        patchLevels[observation.state],
        `patch ${observation.name} ${patchWords[observation.state]}`,
      );
    case "admin.refused":
      return line(errorTable[observation.code].level, "admin request refused");
    case "request.failed":
      return line(errorTable[observation.code].level, "request failed");
    case "tenant.decided":
      return line("info", `tenant decided: ${observation.pooled ? "pooled" : "dedicated"}`);
    case "tenant.unsafe":
    case "database.unsafe":
      return line(observation.refused ? "error" : "warn", "unsafe database roles");
    case "look.failed":
      return line("warn", `cannot look for schema changes: ${observation.message}`);
    case "realtime.failing":
      return line("warn", `cannot read events: ${observation.message}`);
    case "cell.terminated":
      return line(expected.has(observation.reason) ? "info" : "warn", "cell terminated");
    case "cell.log":
      return line(observation.level, "message from a cell");
    case "build.failed":
      return line(errorTable[observation.code].level, "build failed");
    case "database.listening":
      return line(observation.gap ? "warn" : "info", "listening for changes");
    case "database.statements":
      return line("info", `prepared statements are ${observation.kept ? "kept" : "dropped"} between tenants`);
    case "control.installed":
      return observation.missing.length === 0
        ? line("info", "control schema ready")
        : line("warn", "control schema incomplete");
    default:
      return constant[observation.kind];
  }
}

const patchLevels: Readonly<Record<PatchState, LogLevel>> = {
  applied: "debug",
  plain: "warn",
  refused: "error",
};

const patchWords: Readonly<Record<PatchState, string>> = {
  applied: "applied",
  plain: "not applied: the package's own code runs",
  refused: "refused",
};

/** Reasons for a planned end. */
const expected: ReadonlySet<string> = new Set(["evicted", "idle", "replaced", "flushed", "shutdown"]);

/** The properties of `observation` as plain values: strings as excerpts, errors with stack and causes, numbers rounded. */
export function figuresOf(observation: Observation): Record<string, unknown> {
  const figures: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(observation)) {
    // The log itself uses "message" and "level".
    figures[own[name] ?? name] = clean(value);
  }
  return figures;
}

const own: Partial<Record<string, string>> = { message: "detail", level: "severity" };

/** Nobody reads more entries of a list in a log. */
const maxEntries = 50;

function clean(value: unknown): unknown {
  if (typeof value === "number") return Math.round(value * 100) / 100;
  if (typeof value === "string") return excerpt(value);
  if (value instanceof Error) return cleanError(value, 0);
  if (!Array.isArray(value)) return value;
  const more = value.length > maxEntries ? [`and ${value.length - maxEntries} more`] : [];
  return [...value.slice(0, maxEntries).map(clean), ...more];
}

/** Deeper causes add nothing, and a chain may be circular. */
const maxCauses = 4;

function cleanError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack = "", cause } = error;
  const code = codeOf(error);
  const deeper = cause === undefined || depth === maxCauses ? {} : { cause: cleanCause(cause, depth + 1) };
  return {
    name: excerpt(name),
    message: excerpt(message),
    ...(code === undefined ? {} : { code: excerpt(code) }),
    stack: excerptOfStack(stack, message),
    ...deeper,
  };
}

const cleanCause = (cause: unknown, depth: number): unknown =>
  cause instanceof Error ? cleanError(cause, depth) : excerpt(messageOf(cause));
