/** Limits concurrency, with a bounded queue. */

export interface SemaphoreState {
  readonly running: number;
  readonly queued: number;
}

export interface SemaphoreLimits {
  readonly concurrency: number;
  readonly queue: number;
}

/** Whether a newcomer starts, waits, or is refused. Pure. */
export function decideAdmission(state: SemaphoreState, limits: SemaphoreLimits): "run" | "queue" | "refuse" {
  if (state.running < limits.concurrency && state.queued === 0) return "run";
  return state.queued < limits.queue ? "queue" : "refuse";
}

interface Waiting {
  readonly sinceMs: number;
  readonly start: () => void;
  /** How often a later arrival was put ahead of it. */
  overtaken: number;
}

/**
 * A retried request keeps its arrival time and could overtake for ever, so each waiter is overtaken at most
 * this often.
 */
const maxOvertakes = 2;

/**
 * A semaphore with a bounded queue, which p-limit and p-queue do not have: the one that has waited longest is
 * next.
 */
export class BoundedSemaphore {
  readonly #limits: SemaphoreLimits;
  readonly #refusal: () => Error;
  readonly #waiting: Waiting[] = [];
  #running = 0;

  /** `refusal` creates the error thrown if the queue is full. */
  constructor(limits: SemaphoreLimits, refusal: () => Error) {
    this.#limits = limits;
    this.#refusal = refusal;
  }

  get state(): SemaphoreState {
    return { running: this.#running, queued: this.#waiting.length };
  }

  /**
   * Runs `work` when its turn comes; rejects at once if the queue is full. `sinceMs` is when its request
   * began to wait: earlier than now if previous work for it was in vain. No waiter is overtaken more than
   * twice.
   */
  async run<Value>(work: () => Promise<Value>, sinceMs = performance.now()): Promise<Value> {
    const decision = decideAdmission(this.state, this.#limits);
    if (decision === "refuse") throw this.#refusal();
    if (decision === "queue") {
      // The finished one hands over its place, so that no newcomer can take it first.
      await new Promise<void>((start) => this.#enqueue({ sinceMs, start, overtaken: 0 }));
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
    const place =
      this.#waiting.findLastIndex(
        ({ sinceMs, overtaken: passed }) => sinceMs <= waiting.sinceMs || passed >= maxOvertakes,
      ) + 1;
    for (const each of this.#waiting.slice(place)) each.overtaken += 1;
    this.#waiting.splice(place, 0, waiting);
  }
}
