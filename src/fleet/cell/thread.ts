/** Starts a cell's thread: a Piscina pool of exactly one. */
import { fileURLToPath } from "node:url";
import type { MessagePort, Worker } from "node:worker_threads";
import { Piscina } from "piscina";
import { HostError } from "../../shared/kernel/errors.ts";
import type { CellSetup, CellTask, Reply } from "../../shared/protocol/messages.ts";

export interface ThreadOptions {
  readonly workerData: CellSetup;
  readonly v8LimitMb: number;
  readonly youngMb: number;
  /** Another entry than `workers/cell`, in tests of threads. */
  readonly entry?: URL;
}

/** Tasks that a thread may be at, none of which ever waits in a queue: opening, builds and releases. Requests come another way. */
const maxTasks = 1_024;

/** The pool and its thread, which is starting up. */
export function startThread(options: ThreadOptions): [Piscina<CellTask, unknown>, Worker] {
  const pool = new Piscina<CellTask, unknown>({
    filename: fileURLToPath(options.entry ?? workerEntry()),
    // One thread, from the start: with minThreads 0 Piscina 5.3 loses queued tasks after an out-of-memory.
    minThreads: 1,
    maxThreads: 1,
    concurrentTasksPerWorker: maxTasks,
    // 'sync' parks an idle thread in Atomics.wait: no timers, no sockets.
    atomics: "disabled",
    recordTiming: false,
    workerData: options.workerData,
    resourceLimits: {
      // The last resort, and mostly the end of the whole process: the governor keeps the budget, far below it.
      maxOldGenerationSizeMb: options.v8LimitMb,
      maxYoungGenerationSizeMb: options.youngMb,
    },
  });
  const [worker] = pool.threads;
  if (worker === undefined) throw new HostError("INTERNAL", "Piscina started no thread");
  return [pool, worker];
}

/** The thread's reply to `task`: made by our own code on the other side, and only here given its type. */
export async function replyTo<Value>(
  pool: Piscina<CellTask, unknown>,
  task: CellTask,
  transferList: (ArrayBuffer | MessagePort)[],
): Promise<Reply<Value>>;
export async function replyTo(
  pool: Piscina<CellTask, unknown>,
  task: CellTask,
  transferList: (ArrayBuffer | MessagePort)[],
): Promise<unknown> {
  return pool.run(task, { transferList });
}

/** Beside the sources it is TypeScript, in a published package JavaScript. */
function workerEntry(): URL {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`../../../workers/main.${extension}`, import.meta.url);
}
