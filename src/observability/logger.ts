/** Observations as log lines: JSON for machines, one short line each for a terminal. */
import { pino, stdTimeFunctions } from "pino";
import { RateLimit } from "../shared/kernel/rate-limit.ts";
import { Dropped } from "./dropped.ts";
import { limitKey, lineRate } from "./limits.ts";
import { describe, figuresOf, type LogLevel } from "./log-line.ts";
import type { Observation, Observe } from "./observation.ts";

/** Where lines go. */
export interface LineSink {
  /** False for a line that would be dropped, and counts as such. */
  admits(level: LogLevel): boolean;
  write(text: string, level: LogLevel): void;
}

export interface LoggerOptions {
  /** The least level that is written; `silent` writes nothing. */
  readonly level: LogLevel | "silent";
  /** JSON lines, or lines for people. */
  readonly format: "json" | "terminal";
  readonly sink: LineSink;
  /** Where is counted what is left out. */
  readonly dropped?: Dropped;
  readonly clock?: { now(): number };
}

export interface Logger {
  /** Writes one line per observation, without credentials, unless there are too many of its kind. */
  readonly observe: Observe;
  readonly dropped: Dropped;
  /** Says what did not fit in; to be called when there is room again. */
  tellFull(): void;
  /** Says what was left out for its number; to be called now and then where there is no next line to say it. */
  tellLimited(): void;
  /** Says what is left to be said, and ends the timer. */
  close(): void;
}

/** Until what was left out is said, where no line of its kind comes that would say it. */
const summaryMs = 10_000;
/** Kinds that a summary names. */
const maxNamed = 20;

export function createLogger(options: LoggerOptions): Logger {
  const { sink, dropped = new Dropped() } = options;
  const write = lineWriter(options);
  const limit = new RateLimit({
    ...lineRate,
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  let timer: NodeJS.Timeout | null = null;

  const observe = (observation: Observation): void => {
    const loudness = describe(observation).level;
    // Most lines are requests at debug: nothing is copied for a line that is not written.
    if (!write.isEnabled(loudness)) return;
    // What a thread has kept to itself.
    const kept = observation.kind === "cell.log" ? (observation.leftOut ?? 0) : 0;
    if (kept > 0) dropped.add(loudness, "rate", kept);
    const key = limitKey(observation);
    const leftOut = key === null ? 0 : limit.admit(key, kept);
    if (leftOut === undefined) {
      dropped.add(loudness, "rate");
      timer ??= setInterval(tellLimited, summaryMs).unref();
    } else if (sink.admits(loudness)) write(observation, leftOut);
  };
  const tell = (reason: "full" | "rate", { count, lines }: Summary): void => {
    if (count === 0) return;
    const observation: Observation = { kind: "log.dropped", reason, count, lines };
    if (write.isEnabled("warn") && sink.admits("warn")) write(observation, 0);
  };
  const tellFull = (): void => tell("full", takeFull(dropped));
  const tellLimited = (): void => {
    tell("rate", takeLimited(limit));
    // Whoever goes on starts it again.
    stopTimer();
  };
  const stopTimer = (): void => {
    if (timer !== null) clearInterval(timer);
    timer = null;
  };
  return {
    observe,
    dropped,
    tellFull,
    tellLimited,
    close: () => {
      tellLimited();
      tellFull();
    },
  };
}

/** What was left out: how many lines, and of which kinds how many. */
interface Summary {
  readonly count: number;
  readonly lines: readonly string[];
}

/** Of what did not fit in, since the last time. */
function takeFull(dropped: Dropped): Summary {
  const lines = dropped.takeFull();
  return {
    count: lines.reduce((sum, { count }) => sum + count, 0),
    lines: lines.map(({ count, level }) => `${count} ${level}`),
  };
}

/** Of what were too many of their kind, since the last time. */
function takeLimited(limit: RateLimit): Summary {
  const { byKey, other } = limit.takeLeftOut();
  const named = byKey.slice(0, maxNamed);
  const count = byKey.reduce((sum, [, each]) => sum + each, other);
  const rest = count - named.reduce((sum, [, each]) => sum + each, 0);
  const more = rest > 0 ? [`${rest} others`] : [];
  return { count, lines: [...named.map(([key, each]) => `${each} ${key}`), ...more] };
}

interface LineWriter {
  (observation: Observation, leftOut: number): void;
  isEnabled(level: LogLevel): boolean;
}

function lineWriter({ level, format, sink }: LoggerOptions): LineWriter {
  let current: LogLevel = "info";
  const write = (json: string): void => sink.write(format === "json" ? json : terminalLine(json), current);
  const logger = pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write },
  );
  const line = (observation: Observation, leftOut: number): void => {
    const { level: loudness, text } = describe(observation);
    const figures = figuresOf(observation);
    if (leftOut > 0) figures["leftOut"] = leftOut;
    current = loudness;
    logger[loudness](figures, text);
  };
  return Object.assign(line, { isEnabled: (asked: LogLevel) => logger.isLevelEnabled(asked) });
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
