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
  /** Used instead of the worker's entry in tests of threads. */
  readonly entry?: URL;
}

/**
 * Maximum number of concurrent tasks in a thread (opening, builds, releases), so that none waits in Piscina's
 * queue. Requests use the channel instead.
 */
const maxTasks = 1_024;

/** Returns the pool and its thread, which is still starting. */
export function startThread(options: ThreadOptions): [Piscina<CellTask, unknown>, Worker] {
  const pool = new Piscina<CellTask, unknown>({
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
  const [worker] = pool.threads;
  if (worker === undefined) throw new HostError("INTERNAL", "Piscina started no thread");
  return [pool, worker];
}

/** The thread's reply to `task`. Our own code on the other side produced it; this is where it gets its type. */
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

/** The entry is TypeScript when running from sources, JavaScript in a published package. */
function workerEntry(): URL {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`../../../workers/main.${extension}`, import.meta.url);
}
