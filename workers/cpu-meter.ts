/** How long each tenant keeps this thread busy. */
import type { BusyTimes } from "../src/protocol/messages.ts";

/** A message to the front costs a hundredth of this. */
const longMs = 2;

/**
 * Between two turns of the event loop code runs for whoever was last entered: a request that begins, or a connection whose rows have come.
 * It is the time on the clock, not the CPU's: `process.threadCpuUsage` is a system call, and what preempts one tenant preempts all.
 */
export class CpuMeter {
  readonly #onLong: () => void;
  readonly #busyMs = new Map<string, number>();
  #isLong = false;
  #tenant: string | null = null;
  #sinceMs = 0;
  #watching = false;

  /** `onLong` is called behind code that ran for so long that it matters who is next. */
  constructor(onLong: () => void) {
    this.#onLong = onLong;
  }

  /** From now on the thread runs for `tenant`, at most until the event loop's next turn. */
  enter(tenant: string): void {
    const nowMs = performance.now();
    this.#add(nowMs);
    this.#tenant = tenant;
    this.#sinceMs = nowMs;
    if (this.#watching) return;
    this.#watching = true;
    // Behind all that the loop finds ready now. An immediate keeps it from sleeping, so no idle time is counted.
    setImmediate(() => {
      this.#watching = false;
      this.#add(performance.now());
      this.#tenant = null;
      if (!this.#isLong) return;
      this.#isLong = false;
      this.#onLong();
    });
  }

  /** What came together since the last time. */
  take(): BusyTimes {
    if (this.#tenant !== null) {
      const nowMs = performance.now();
      this.#add(nowMs);
      this.#sinceMs = nowMs;
    }
    if (this.#busyMs.size === 0) return nothing;
    const times: (string | number)[] = [];
    for (const [tenant, ms] of this.#busyMs) times.push(tenant, ms);
    this.#busyMs.clear();
    return times;
  }

  #add(nowMs: number): void {
    if (this.#tenant === null) return;
    const ms = nowMs - this.#sinceMs;
    this.#isLong ||= ms >= longMs;
    this.#busyMs.set(this.#tenant, (this.#busyMs.get(this.#tenant) ?? 0) + ms);
  }
}

const nothing: BusyTimes = [];
