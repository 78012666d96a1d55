/** Writes observations as log lines: JSON for machines, or one short line each for a terminal. */
import { pino, stdTimeFunctions } from "pino";
import { RateLimit } from "../shared/kernel/rate-limit.ts";
import { Dropped } from "./dropped.ts";
import { limitKey, lineRate } from "./limits.ts";
import { describe, figuresOf, type LogLevel } from "./log-line.ts";
import type { Observation, Observe } from "./observation.ts";

/** The destination of lines. */
export interface LineSink {
  /** False if a line of `level` would be dropped; it is then counted as dropped. */
  admits(level: LogLevel): boolean;
  write(text: string, level: LogLevel): void;
}

export interface LoggerOptions {
  /** The lowest level to write; `silent` writes nothing. */
  readonly level: LogLevel | "silent";
  /** JSON lines, or lines for humans. */
  readonly format: "json" | "terminal";
  readonly sink: LineSink;
  /** Counts the lines that are not written. */
  readonly dropped?: Dropped;
  readonly clock?: { now(): number };
}

export interface Logger {
  /** Writes one line per observation, without credentials, unless the limit of its kind is exceeded. */
  readonly observe: Observe;
  readonly dropped: Dropped;
  /** Reports the lines that did not fit into the buffer; to be called when there is room again. */
  tellFull(): void;
  /** Reports rate-limited lines. Runs on a timer, because the next line that would report them may never come. */
  tellLimited(): void;
  /** Reports everything that is still unreported, and stops the timer. */
  close(): void;
}

/** How long rate-limited lines stay unreported if no further line of their kind reports them. */
const summaryMs = 10_000;
/** Maximum number of keys that a summary names. */
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
    // Most lines are requests at debug level: nothing is copied for a line that is not written.
    if (!write.isEnabled(loudness)) return;
    // Lines that a thread dropped itself.
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
    // The next rate-limited line starts it again.
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

/** Dropped lines: their number, and the numbers by kind. */
interface Summary {
  readonly count: number;
  readonly lines: readonly string[];
}

/** Summarises the lines that did not fit since the last call. */
function takeFull(dropped: Dropped): Summary {
  const lines = dropped.takeFull();
  return {
    count: lines.reduce((sum, { count }) => sum + count, 0),
    lines: lines.map(({ count, level }) => `${count} ${level}`),
  };
}

/** Summarises the rate-limited lines since the last call. */
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

/** `12:34:56.789 info  build done key=bp:… buildMs=412`: the time, level, text, and the figures in their order. */
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
  // For an error only its message; the JSON log has its stack.
  return "message" in value ? JSON.stringify(value.message) : JSON.stringify(value);
}

/** Escapes control characters: names and messages are untrusted, and must neither move the cursor nor forge a line. */
function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
