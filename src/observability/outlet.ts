/**
 * Where lines leave the process: a descriptor that nothing ever waits for. What its reader does not take is kept, up to a bound. pino's own
 * destination waits for its reader where it is synchronous, and where it is not keeps the lines before a crash to itself; its `flushSync`
 * (sonic-boom 4.2.1) never ends once the reader is gone.
 */

import { write, writeSync } from "node:fs";
import { codeOf } from "../shared/kernel/errors.ts";
import type { Descriptor } from "./descriptor.ts";
import type { LogLevel } from "./log-line.ts";

/** How much of `bufferBytes` lines of a level may fill: the last room is for what is worst. */
const shares: Readonly<Record<LogLevel, number>> = { debug: 0.25, info: 0.5, warn: 0.75, error: 1 };
export const bufferBytes = 1024 * 1024;
/** What a pipe holds. */
const chunkBytes = 64 * 1024;
/** No line is shorter. */
const minBytes = 64;
/** Until a reader that has fallen behind is tried again: a terminal holds 4 kB, and takes them at once; one that stopped costs little. */
const minRetryMs = 2;
const maxRetryMs = 100;
/** At the end: for a reader that goes on reading, and for one that does not. */
const flushMs = 1_000;
const quietMs = 100;

/** Whether a line of `level` and of `bytes` fits in beside the `kept` ones. */
export function fits(level: LogLevel, bytes: number, kept: number): boolean {
  return kept + bytes <= bufferBytes * shares[level];
}

export interface OutletOptions {
  readonly descriptor: Descriptor;
  /** A line that nobody took, or will. */
  readonly onDrop: (level: LogLevel) => void;
  /** All is written, after lines had been dropped. */
  readonly onResume: () => void;
}

interface Line {
  readonly level: LogLevel;
  readonly text: string;
}

export class Outlet {
  readonly #options: OutletOptions;
  /** Whole lines, in order. */
  #lines: Line[] = [];
  /** What is being written: the end of a text that has begun to be. */
  #rest: Buffer | null = null;
  #bytes = 0;
  #timer: NodeJS.Timeout | null = null;
  /** A file's write, which is under way in Node's thread pool. */
  #writing = false;
  #lacks = false;
  #takenMs = performance.now();
  #retryMs = minRetryMs;

  constructor(options: OutletOptions) {
    this.#options = options;
  }

  /** Whether a line of `level` has any chance; where it has none, it counts as dropped, and need not be made. */
  admits(level: LogLevel): boolean {
    if (fits(level, minBytes, this.#bytes)) return true;
    this.#drop(level);
    return false;
  }

  /** Writes `text`, whole lines, now or as soon as the reader takes it; or drops it. */
  write(text: string, level: LogLevel): void {
    const bytes = Buffer.byteLength(text);
    if (!fits(level, bytes, this.#bytes)) {
      this.#drop(level);
      return;
    }
    this.#lines.push({ level, text });
    this.#bytes += bytes;
    if (this.#timer === null && !this.#writing) this.#pump();
  }

  /** Writes all that is left, for at most a second, or a tenth of one in which nothing is taken. For the end of the process. */
  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#writing) {
      // The pool ends what it has begun, also after the end; mostly before what comes now.
      pause(20);
      this.#takeBytes(this.#rest?.length ?? 0);
    }
    const endMs = performance.now() + flushMs;
    for (let chunk = this.#chunk(); chunk !== null; chunk = this.#chunk()) {
      const taken = this.#try(chunk);
      if (taken === "failed") return;
      if (taken > 0) continue;
      const nowMs = performance.now();
      if (nowMs > endMs || nowMs - this.#takenMs > quietMs) return;
      pause(5);
    }
  }

  #pump(): void {
    for (let chunk = this.#chunk(); chunk !== null; chunk = this.#chunk()) {
      if (this.#options.descriptor.kind === "file") {
        this.#writeFile(chunk);
        return;
      }
      const taken = this.#try(chunk);
      if (taken === "failed") return;
      if (taken === 0) {
        this.#retry();
        return;
      }
    }
    this.#resume();
  }

  #chunk(): Buffer | null {
    if (this.#rest !== null) return this.#rest;
    let [end, characters] = [0, 0];
    for (const { text } of this.#lines) {
      if (end > 0 && characters + text.length > chunkBytes) break;
      end += 1;
      characters += text.length;
    }
    if (end === 0) return null;
    const begun = this.#lines.splice(0, end);
    this.#rest = Buffer.from(begun.map(({ text }) => text).join(""));
    return this.#rest;
  }

  /** How many bytes of `chunk` were taken; 0: none at the moment. */
  #try(chunk: Buffer): number | "failed" {
    try {
      const taken = writeSync(this.#options.descriptor.fd, chunk);
      this.#takeBytes(taken);
      return taken;
    } catch (error) {
      if (isBusy(error)) return 0;
      this.#fail();
      return "failed";
    }
  }

  #writeFile(chunk: Buffer): void {
    this.#writing = true;
    write(this.#options.descriptor.fd, chunk, (error, taken) => {
      // Or it was flushed meanwhile.
      if (!this.#writing) return;
      this.#writing = false;
      if (error !== null) {
        this.#fail();
        return;
      }
      this.#takeBytes(taken);
      this.#pump();
    });
  }

  #takeBytes(taken: number): void {
    const { length } = this.#rest ?? "";
    this.#rest = taken < length ? (this.#rest?.subarray(taken) ?? null) : null;
    this.#writing = false;
    this.#bytes -= taken;
    this.#takenMs = performance.now();
    this.#retryMs = minRetryMs;
  }

  #retry(): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#pump();
    }, this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, maxRetryMs);
    // The end of the process does not wait for it: `flush` does, for a moment.
    this.#timer.unref();
  }

  /** Nobody reads any more, or the disk is full: what comes next is tried again, one write for each line. */
  #fail(): void {
    // What had been begun counts as one.
    if (this.#rest !== null) this.#drop("error");
    for (const { level } of this.#lines) this.#drop(level);
    this.#lines = [];
    this.#rest = null;
    this.#bytes = 0;
  }

  #drop(level: LogLevel): void {
    this.#lacks = true;
    this.#options.onDrop(level);
  }

  #resume(): void {
    if (!this.#lacks || this.#bytes > 0) return;
    this.#lacks = false;
    this.#options.onResume();
  }
}

function isBusy(error: unknown): boolean {
  const code = codeOf(error);
  return code === "EAGAIN" || code === "EBUSY" || code === "EINTR";
}

/** In the middle of the end of a process there is nothing else to run. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
