/** Observations as log lines: JSON for machines, one short line each for a terminal. */
import { type DestinationStream, destination, pino, stdTimeFunctions } from "pino";
import type { Observation, Observe } from "../kernel/observation.ts";
import { describe, figuresOf, type LogLevel } from "./line.ts";

export interface LoggerOptions {
  /** The least level that is written; `silent` writes nothing. */
  readonly level: LogLevel | "silent";
  /** JSON lines, or lines for people. */
  readonly format: "json" | "terminal";
  /** Where lines go; standard output unless given. */
  readonly write?: (text: string) => void;
}

/** An `Observe` that writes one line per observation, without credentials. */
export function createLogger({ level, format, write }: LoggerOptions): Observe {
  // Synchronous: the lines before a crash or an exit are the ones that will be read.
  const out: DestinationStream = write === undefined ? destination({ dest: 1, sync: true }) : { write };
  const sink = format === "json" ? out : { write: (json: string) => out.write(terminalLine(json)) };
  const logger = pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    sink,
  );
  return (observation: Observation) => {
    const { level: loudness, text } = describe(observation);
    // Most lines are requests at debug: nothing is copied for a line that is not written.
    if (logger.isLevelEnabled(loudness)) logger[loudness](figuresOf(observation), text);
  };
}

const colours: Partial<Record<string, string>> = { debug: "\x1b[2m", warn: "\x1b[33m", error: "\x1b[31m" };

/** `12:34:56.789 info  build done key=bp:… buildMs=412`: the time, and the figures in the order they came. */
function terminalLine(json: string): string {
  const record: unknown = JSON.parse(json);
  const { time, level, msg, kind: _kind, ...figures } = Object.fromEntries(Object.entries(record ?? {}));
  const clock = String(time).slice(11, 23);
  const pairs = Object.entries(figures).map(([name, value]) => `${name}=${brief(value)}`);
  const text = printable([clock, String(level).padEnd(5), msg, ...pairs].join(" "));
  const colour = colours[String(level)];
  return colour === undefined ? `${text}\n` : `${colour}${text}\x1b[0m\n`;
}

function brief(value: unknown): string {
  if (typeof value === "string") return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  if (typeof value !== "object" || value === null) return String(value);
  // An error: its message here, its stack in the JSON log.
  return "message" in value ? JSON.stringify(value.message) : JSON.stringify(value);
}

/** Names and messages come from outside: none of them may move the cursor or forge a line. */
function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
