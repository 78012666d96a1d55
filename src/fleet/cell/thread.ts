/** A cell's thread, as Piscina runs it. */
import { fileURLToPath } from "node:url";
import type { MessagePort, Worker } from "node:worker_threads";
import { Piscina } from "piscina";
import { HostError } from "../../shared/kernel/errors.ts";
import type { CellSetup, CellTask, Reply } from "../../shared/protocol/messages.ts";

export interface ThreadOptions {
  readonly workerData: CellSetup;
  readonly v8LimitMb: number;
  readonly youngMb: number;
  /** Used instead of the worker's entry in tests of threads. */
  readonly entry?: URL;
}

/**
 * Maximum number of concurrent tasks in a thread (opening, builds, releases), so that none waits in Piscina's
 * queue. Requests use the channel instead.
 */
const maxTasks = 1_024;

/** What its owner learns of a thread without asking. */
export interface ThreadEvents {
  /** It threw outside any task; it ends by itself. */
  readonly failed: (error: Error) => void;
  /** It is gone. */
  readonly exited: () => void;
}

/** A thread that runs tasks: a Piscina pool of exactly one, which nothing else knows of. */
export class Thread {
  readonly worker: Worker;
  readonly #pool: Piscina<CellTask, unknown>;

  /** Returns before the thread has started; it runs what it is given once it has. */
  constructor(options: ThreadOptions, { failed, exited }: ThreadEvents) {
    this.#pool = startPool(options);
    const [worker] = this.#pool.threads;
    if (worker === undefined) throw new HostError("INTERNAL", "Piscina started no thread");
    this.worker = worker;
    // Runs before Piscina's own listeners, which would start another thread in place of the one that died.
    worker.prependListener("error", failed);
    worker.prependOnceListener("exit", exited);
    // Piscina re-emits the thread's error; without a listener it would be thrown.
    this.#pool.on("error", () => undefined);
  }

  /**
   * The thread's reply to `task`, whose type is what our own code on the other side produces; this is where it gets
   * it. Rejects if the thread throws or ends. Not to be called after `end`: Piscina 5.3 would start a new thread.
   */
  run<Value>(task: CellTask, transferList?: (ArrayBuffer | MessagePort)[]): Promise<Reply<Value>>;
  async run(task: CellTask, transferList: (ArrayBuffer | MessagePort)[] = []): Promise<unknown> {
    return this.#pool.run(task, { transferList });
  }

  /** Rejects every task in flight and ends the thread, which has stopped only when `exited` is called. */
  end(): Promise<void> {
    return this.#pool.destroy();
  }
}

function startPool(options: ThreadOptions): Piscina<CellTask, unknown> {
  return new Piscina<CellTask, unknown>({
    filename: fileURLToPath(options.entry ?? workerEntry()),
    // One thread, started at once: with minThreads 0 Piscina 5.3 loses queued tasks after an out-of-memory.
    minThreads: 1,
    maxThreads: 1,
    concurrentTasksPerWorker: maxTasks,
    // 'sync' parks an idle thread in Atomics.wait, where neither timers nor sockets work.
    atomics: "disabled",
    recordTiming: false,
    workerData: options.workerData,
    resourceLimits: {
      // The last resort, which usually ends the whole process. The governor enforces the budget, which is far
      // below it.
      maxOldGenerationSizeMb: options.v8LimitMb,
      maxYoungGenerationSizeMb: options.youngMb,
    },
  });
}

/** The entry is TypeScript when running from sources, JavaScript in a published package. */
function workerEntry(): URL {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`../../../workers/main.${extension}`, import.meta.url);
}
