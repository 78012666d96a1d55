/** What is not in the log, by how loud it was and why it was left out. */

import type { LogLevel } from "./log-line.ts";
import type { DropReason } from "./observation.ts";

export interface DroppedLines {
  readonly level: LogLevel;
  readonly reason: DropReason;
  readonly count: number;
}

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error"];

export class Dropped {
  readonly #counts = { full: none(), rate: none() };
  /** Of those that did not fit in. */
  readonly #reported = none();

  add(level: LogLevel, reason: DropReason, count = 1): void {
    this.#counts[reason][level] += count;
  }

  /** Of those that did not fit in, what was not taken before. */
  takeFull(): readonly DroppedLines[] {
    return levels.flatMap((level) => {
      const count = this.#counts.full[level] - this.#reported[level];
      this.#reported[level] += count;
      return count === 0 ? [] : [{ level, reason: "full" as const, count }];
    });
  }

  /** Since the start; of every level and reason, those of which there was none included. */
  get all(): readonly DroppedLines[] {
    return (["full", "rate"] as const).flatMap((reason) =>
      levels.map((level) => ({ level, reason, count: this.#counts[reason][level] })),
    );
  }
}

const none = (): Record<LogLevel, number> => ({ debug: 0, info: 0, warn: 0, error: 0 });
