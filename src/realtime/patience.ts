/** Work that is repeated while it fails for a reason that may pass. */
import type { CancellationToken } from "../shared/kernel/cancellation.ts";
import { pause } from "../shared/kernel/duration.ts";
import { type HostError, toHostError } from "../shared/kernel/errors.ts";

/** The pause before the first retry. */
export const firstRetryMs = 250;
/** The pause after one of `ms`. */
export const nextRetryMs = (ms: number): number => Math.min(5_000, 2 * ms);

export interface Patience {
  readonly forMs: number;
  /** Whether nobody waits for it any more. */
  readonly isOver: () => boolean;
  /** Ends a pause. */
  readonly signal?: CancellationToken;
  /** Called with true before a pause, and with false behind it. */
  readonly onPause?: (pauses: boolean) => void;
}

/** Whether a retry may mend it and nothing of the operation can stand. A mutation may have been committed before its thread ended. */
export const isHarmless = ({ retryable, code }: HostError): boolean => retryable && code !== "CELL_LOST";

/** The result of `work`, which is repeated for as long as `forMs` while it fails with nothing done, as a database that restarts makes it. */
export async function patiently<Value>(
  work: () => Promise<Value>,
  { forMs, isOver, signal, onPause }: Patience,
): Promise<Value> {
  const untilMs = performance.now() + forMs;
  for (let pauseMs = firstRetryMs; ; pauseMs = nextRetryMs(pauseMs)) {
    try {
      return await work();
    } catch (thrown) {
      const isLast = performance.now() + pauseMs > untilMs;
      if (isOver() || isLast || !isHarmless(toHostError(thrown))) throw thrown;
      onPause?.(true);
      await pause(pauseMs, signal);
      onPause?.(false);
    }
  }
}
