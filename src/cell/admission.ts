/** How many builds run, wait, or are turned away; and how long a key that ends threads is held back. Pure. */
import { HostError } from "../kernel/errors.ts";

export interface AdmissionState {
  readonly running: number;
  readonly queued: number;
}

export interface AdmissionLimits {
  readonly concurrency: number;
  readonly queue: number;
}

/** Whether a build starts, waits, or is refused. */
export function decideAdmission(state: AdmissionState, limits: AdmissionLimits): "run" | "queue" | "refuse" {
  if (state.running < limits.concurrency && state.queued === 0) return "run";
  return state.queued < limits.queue ? "queue" : "refuse";
}

/** What is known of a key that was there when threads ended. */
export interface StrikeRecord {
  /** Ends of threads that it was in, building or serving. */
  readonly strikes: number;
  /** Those of them where nothing else was. */
  readonly certain: number;
  readonly lastMs: number;
}

/** After this long without a strike a key is as good as any other. */
const forgivenAfterMs = 10 * 60_000;
const firstPauseMs = 5_000;
const longestPauseMs = 5 * 60_000;

export function strike(record: StrikeRecord | undefined, alone: boolean, nowMs: number): StrikeRecord {
  const known = record !== undefined && nowMs - record.lastMs < forgivenAfterMs ? record : undefined;
  return {
    strikes: (known?.strikes ?? 0) + 1,
    certain: (known?.certain ?? 0) + (alone ? 1 : 0),
    lastMs: nowMs,
  };
}

/** Whether a key is to be alone in its cell, so that the next end of a thread says whose doing it was. */
export function isSuspect(record: StrikeRecord | undefined, nowMs: number): boolean {
  return record !== undefined && nowMs - record.lastMs < forgivenAfterMs;
}

/**
 * For how many more milliseconds a key is held back; 0: not at all. The first end of a thread costs nothing, each
 * further one that was certainly its own twice the pause before.
 */
export function heldForMs(record: StrikeRecord | undefined, nowMs: number): number {
  if (record === undefined || record.certain < 2) return 0;
  const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (record.certain - 2));
  return Math.max(0, record.lastMs + pauseMs - nowMs);
}

interface Waiting {
  readonly sinceMs: number;
  readonly start: () => void;
}

/** The semaphore over builds with its bounded queue: who has waited longest is next. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #waiting: Waiting[] = [];
  #running = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get state(): AdmissionState {
    return { running: this.#running, queued: this.#waiting.length };
  }

  /**
   * Runs `work` when its turn comes; throws `BUILD_QUEUE_FULL` at once where too many wait. `sinceMs` is when whoever it is
   * for began to wait: earlier than now where a build for it was in vain.
   */
  async run<Value>(work: () => Promise<Value>, sinceMs = performance.now()): Promise<Value> {
    const decision = decideAdmission(this.state, this.#limits);
    if (decision === "refuse") throw new HostError("BUILD_QUEUE_FULL");
    if (decision === "queue") {
      // The place is handed over by whoever leaves, so that nobody slips in between.
      await new Promise<void>((start) => this.#enqueue({ sinceMs, start }));
    } else {
      this.#running += 1;
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next.start();
    }
  }

  #enqueue(waiting: Waiting): void {
    const younger = this.#waiting.findIndex((each) => each.sinceMs > waiting.sinceMs);
    this.#waiting.splice(younger === -1 ? this.#waiting.length : younger, 0, waiting);
  }
}
