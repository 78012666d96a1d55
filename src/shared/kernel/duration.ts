/** Durations in human notation. */
import type { CancellationToken } from "./cancellation.ts";

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const pattern = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/;

/**
 * Parses `"250ms"`, `"30s"`, `"6h"` or a plain non-negative number of milliseconds into milliseconds;
 * undefined for anything else.
 */
export function parseDurationMs(value: string | number): number | undefined {
  if (typeof value === "number") return Number.isFinite(value) && value >= 0 ? value : undefined;
  const match = pattern.exec(value.trim());
  if (match === null) return undefined;
  const [, amount = "", unit = ""] = match;
  return unit in unitMs ? Number(amount) * unitMs[unit as keyof typeof unitMs] : undefined;
}

/** Resolves after `ms`, soon if that is negative, or as soon as `signal` aborts; the timer is cleared either way. */
export function pause(ms: number, signal?: CancellationToken): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(0, ms));
    signal?.addEventListener("abort", done, { once: true });
  });
}
