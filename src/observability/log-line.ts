/** An observation as a log line: a level, a sentence, and its figures. */
import { errorTable, messageOf, unreachable } from "../shared/kernel/errors.ts";
import { excerpt, excerptOfStack } from "../shared/kernel/excerpt.ts";
import type { PatchState } from "../shared/kernel/patch-policy.ts";
import type { Observation } from "./observation.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LogLine {
  readonly level: LogLevel;
  readonly text: string;
}

/** How loud `observation` is, and what it says to a reader; its figures are `figuresOf`'s. */
export function describe(observation: Observation): LogLine {
  switch (observation.kind) {
    case "host.phase":
      return line("info", `host ${observation.phase}`);
    case "host.config":
      return line("info", observation.file === null ? "config from the environment" : "config read");
    case "host.listening":
      return line("info", `${observation.name} listener ready`);
    case "host.plan":
      return line("info", "memory plan");
    case "host.error":
      return line(
        "error",
        observation.fatal ? "the host ends: an error that nobody caught" : "an error that nobody caught",
      );
    case "host.warning":
      return line("warn", "warning");
    case "log.dropped":
      return line("warn", "lines are missing here");
    case "config.warning":
      return line("warn", "config");
    case "patch.state":
      return line(patchLevels[observation.state], `patch ${observation.name} ${observation.state}`);
    case "http.error":
      return line("error", "a connection could not be accepted");
    case "admin.refused":
      return line(errorTable[observation.code].level, "admin request refused");
    case "request.done":
      return line("debug", "request");
    case "request.failed":
      return line(errorTable[observation.code].level, "request failed");
    case "request.retried":
      return line("info", "request retried");
    case "tenant.decided":
      return line("info", `tenant decided: ${observation.pooled ? "pooled" : "dedicated"}`);
    case "tenant.unsafe":
    case "database.unsafe":
      return line(observation.refused ? "error" : "warn", "roles are not safe");
    case "tenant.changed":
      return line("info", "tenant forgotten");
    case "tenant.migrated":
      return line("info", "tenant migrated");
    case "tenant.quarantined":
      return line("warn", "tenant quarantined: it takes more than its share");
    case "tenant.released":
      return line("info", "tenant released from quarantine");
    case "schema.read":
      return line("debug", "schema read");
    case "notices.read":
      return line("debug", "revisions read");
    case "look.found":
      return line("info", "schemas had changed without a notice");
    case "look.failed":
      return line("warn", `changes of schemas cannot be looked for: ${observation.message}`);
    case "guard.checked":
      // One a second and cell: the metrics count them.
      return line("debug", "guard checked");
    case "guard.failed":
      return line("info", "the schema had changed");
    case "guard.exhausted":
      return line("warn", "the schema kept changing");
    case "cell.started":
      return line("info", "cell started");
    case "cell.condemned":
      return line("warn", "cell condemned");
    case "cell.terminated":
      return line(expected.has(observation.reason) ? "info" : "warn", "cell terminated");
    case "cell.error":
      return line("error", "cell error");
    case "cell.log":
      return line(observation.level, "cell says");
    case "build.started":
      return line("info", "build started");
    case "build.done":
      return line("info", "build done");
    case "build.failed":
      return line(errorTable[observation.code].level, "build failed");
    case "instance.measured":
      return line("debug", "instance measured");
    case "instance.evicted":
      return line("info", "instance evicted");
    case "database.lost":
      return line("error", "database lost");
    case "database.listening":
      return line(observation.gap ? "warn" : "info", "listening for changes");
    case "database.pooled":
      return line("info", "a pooler stands in front of the database: nothing of a session is relied on");
    case "control.installed":
      return observation.missing.length === 0
        ? line("info", "control schema ready")
        : line("warn", "control schema incomplete");
    default:
      return unreachable(observation);
  }
}

const patchLevels: Readonly<Record<PatchState, LogLevel>> = {
  applied: "debug",
  plain: "warn",
  refused: "error",
};

const line = (level: LogLevel, text: string): LogLine => ({ level, text });

/** Ends that someone or something has planned. */
const expected: ReadonlySet<string> = new Set(["evicted", "idle", "replaced", "flushed", "shutdown"]);

/** All of `observation` as plain, clean values: texts as excerpts, errors with stack and causes, milliseconds and MB rounded. */
export function figuresOf(observation: Observation): Record<string, unknown> {
  const figures: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(observation)) {
    // "message" and "level" are the log's own words.
    figures[own[name] ?? name] = clean(value);
  }
  return figures;
}

const own: Partial<Record<string, string>> = { message: "detail", level: "severity" };

/** More than this of a list is not read in a log. */
const maxEntries = 50;

function clean(value: unknown): unknown {
  if (typeof value === "number") return Math.round(value * 100) / 100;
  if (typeof value === "string") return excerpt(value);
  if (value instanceof Error) return cleanError(value, 0);
  if (!Array.isArray(value)) return value;
  const more = value.length > maxEntries ? [`and ${value.length - maxEntries} more`] : [];
  return [...value.slice(0, maxEntries).map(clean), ...more];
}

/** Deeper causes than this say nothing new, and a chain may be circular. */
const maxCauses = 4;

function cleanError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack = "", cause } = error;
  const code = "code" in error && typeof error.code === "string" ? { code: excerpt(error.code) } : {};
  const deeper = cause === undefined || depth === maxCauses ? {} : { cause: cleanCause(cause, depth + 1) };
  return {
    name: excerpt(name),
    message: excerpt(message),
    ...code,
    stack: excerptOfStack(stack, message),
    ...deeper,
  };
}

const cleanCause = (cause: unknown, depth: number): unknown =>
  cause instanceof Error ? cleanError(cause, depth) : excerpt(messageOf(cause));
