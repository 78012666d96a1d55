/** Zod schemas for quantities as people write them in a config file. */
import { z } from "zod";
import { parseDurationMs } from "../shared/kernel/duration.ts";

/** The longest delay of a Node timer; a longer one would fire at once. */
const longestMs = 2 ** 31 - 1;

/** Parses `"30s"`, `"6h"` or a number of milliseconds to whole milliseconds. */
export function durationMs(minMs: number) {
  return z
    .union([z.string(), z.number()], 'must be a duration such as "30s" or milliseconds')
    .transform((value, context): number => {
      const ms = parseDurationMs(value);
      if (ms === undefined)
        context.addIssue('must be a duration such as "250ms", "30s", "6h" or milliseconds');
      else if (ms < minMs) context.addIssue(`must be at least ${minMs} ms`);
      else if (ms > longestMs) context.addIssue("must be at most 24 days");
      else return Math.round(ms);
      return z.NEVER;
    });
}

/** Powers of 1024, as in PostgreSQL and V8. */
const unitBytes: Readonly<Record<string, number>> = { "": 1, B: 1, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 };
const sizePattern = /^(\d+(?:\.\d+)?)\s*(|B|KB|MB|GB)$/i;

/** Parses `"1 MB"`, `"512 KB"` or a number of bytes to whole bytes. */
export function byteCount() {
  return z
    .union([z.string(), z.number()], 'must be a size such as "1 MB" or a number of bytes')
    .transform((value, context): number => {
      const [, amount = "", unit = ""] = sizePattern.exec(String(value).trim()) ?? [];
      const bytes = Math.floor(Number(amount) * (unitBytes[unit.toUpperCase()] ?? Number.NaN));
      if (amount !== "" && bytes >= 1 && Number.isSafeInteger(bytes)) return bytes;
      context.addIssue('must be a size such as "1 MB", "512 KB" or a number of bytes');
      return z.NEVER;
    });
}

export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER) {
  const range =
    max === Number.MAX_SAFE_INTEGER ? `a whole number, ${min} or more` : `a whole number, ${min} to ${max}`;
  return z
    .number(`must be ${range}`)
    .int(`must be ${range}`)
    .min(min, `must be ${range}`)
    .max(max, `must be ${range}`);
}
