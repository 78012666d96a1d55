/** A few at a time, and no more than so many who wait. */

export interface SemaphoreState {
  readonly running: number;
  readonly queued: number;
}

export interface SemaphoreLimits {
  readonly concurrency: number;
  readonly queue: number;
}

/** Whether whoever comes starts, waits, or is refused. Pure. */
export function decideAdmission(state: SemaphoreState, limits: SemaphoreLimits): "run" | "queue" | "refuse" {
  if (state.running < limits.concurrency && state.queued === 0) return "run";
  return state.queued < limits.queue ? "queue" : "refuse";
}

interface Waiting {
  readonly sinceMs: number;
  readonly start: () => void;
  /** How often somebody who came later to the queue went ahead. */
  overtaken: number;
}

/** Whoever comes again and again, and is older each time than all who wait, would keep them waiting for as long as it comes. */
const maxOvertakes = 2;

/** A semaphore with a bounded queue, a bound that p-limit and p-queue do not have: who has waited longest is next. */
export class BoundedSemaphore {
  readonly #limits: SemaphoreLimits;
  readonly #refusal: () => Error;
  readonly #waiting: Waiting[] = [];
  #running = 0;

  /** `refusal` makes what is thrown where too many wait. */
  constructor(limits: SemaphoreLimits, refusal: () => Error) {
    this.#limits = limits;
    this.#refusal = refusal;
  }

  get state(): SemaphoreState {
    return { running: this.#running, queued: this.#waiting.length };
  }

  /**
   * What `work` gives, when its turn has come; rejects at once where too many wait. `sinceMs` is when whoever it is for began to
   * wait: earlier than now where what was done for it was in vain. Nobody is passed more than twice.
   */
  async run<Value>(work: () => Promise<Value>, sinceMs = performance.now()): Promise<Value> {
    const decision = decideAdmission(this.state, this.#limits);
    if (decision === "refuse") throw this.#refusal();
    if (decision === "queue") {
      // The place is handed over by whoever leaves, so that nobody slips in between.
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
