/**
 * Writes lines to a descriptor without ever blocking on its reader; what the reader does not take is buffered, up to a limit. pino's own
 * destination blocks on its reader if it is synchronous, and loses the lines before a crash if it is not; its `flushSync` (sonic-boom
 * 4.2.1) never returns once the reader is gone.
 */

import { write, writeSync } from "node:fs";
import { codeOf } from "../shared/kernel/errors.ts";
import type { Descriptor } from "./descriptor.ts";
import type { LogLevel } from "./log-line.ts";

/** The share of `bufferBytes` that lines of a level may fill, so that the most severe lines still find room. */
const shares: Readonly<Record<LogLevel, number>> = { debug: 0.25, info: 0.5, warn: 0.75, error: 1 };
export const bufferBytes = 1024 * 1024;
/** The capacity of a pipe. */
const chunkBytes = 64 * 1024;
/** A lower bound for the length of a line. */
const minBytes = 64;
/** Pauses before the next try with a slow reader. A terminal buffers only 4 kB but reads at once, so the first is short; the longest costs little. */
const minRetryMs = 2;
const maxRetryMs = 100;
/** Limits of `flush`: for a reader that keeps reading, and for one that does not. */
const flushMs = 1_000;
const quietMs = 100;

/** Whether a line of `level` with `bytes` bytes fits next to the `kept` bytes in the buffer. */
export function fits(level: LogLevel, bytes: number, kept: number): boolean {
  return kept + bytes <= bufferBytes * shares[level];
}

export interface OutletOptions {
  readonly descriptor: Descriptor;
  /** Called for every dropped line. */
  readonly onDrop: (level: LogLevel) => void;
  /** Called when everything is written, if lines were dropped before. */
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
  /** The unwritten rest of the chunk that is being written. */
  #rest: Buffer | null = null;
  #bytes = 0;
  #timer: NodeJS.Timeout | null = null;
  /** Whether a write to a file is in progress in Node's thread pool. */
  #writing = false;
  #lacks = false;
  #takenMs = performance.now();
  #retryMs = minRetryMs;

  constructor(options: OutletOptions) {
    this.#options = options;
  }

  /** Whether a line of `level` may fit. If not, it counts as dropped, and the caller need not create it. */
  admits(level: LogLevel): boolean {
    if (fits(level, minBytes, this.#bytes)) return true;
    this.#drop(level);
    return false;
  }

  /** Writes `text`, which consists of whole lines, now or as soon as the reader takes it, or drops it. */
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

  /** Writes everything that is left, at the end of the process. Gives up after a second, or 100 ms in which nothing was taken. */
  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#writing) {
      // The thread pool completes the write that is in progress; the pause lets it come first in nearly every case.
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

  /** The number of bytes of `chunk` that were taken; 0 if the reader takes none at the moment. */
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
      // `flush` has taken over.
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
    // The timer must not keep the process alive: `flush` writes the rest.
    this.#timer.unref();
  }

  /** Drops everything after a failed write: the reader is gone, or the disk is full. Later lines are tried again. */
  #fail(): void {
    // The chunk in progress counts as one line.
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

/** Blocks the thread, which is fine while the process ends. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
