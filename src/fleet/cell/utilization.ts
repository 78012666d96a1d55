/** How busy a thread's event loop is, read from outside. */
import type { EventLoopUtilization } from "node:perf_hooks";
import type { Worker } from "node:worker_threads";

export class Utilization {
  readonly #worker: Worker;
  #before: EventLoopUtilization | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** Share of the time since the last call in which the loop was busy, 0 to 1. */
  sample(): number {
    const { performance: thread } = this.#worker;
    const now = thread.eventLoopUtilization();
    const { utilization } = thread.eventLoopUtilization(now, this.#before);
    this.#before = now;
    return utilization;
  }
}
