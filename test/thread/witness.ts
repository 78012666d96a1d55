/** How tests of cells observe and control what happens. */
import { BroadcastChannel } from "node:worker_threads";

/** Where selected builds and requests wait: `arrived` resolves when the first has come, `open` lets all through. */
export class Gate {
  readonly name = `gate-${Math.random()}`;
  readonly arrived: Promise<void>;
  readonly #channel = new BroadcastChannel(this.name);

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.arrived = promise;
    this.#channel.onmessage = () => resolve();
  }

  open(): void {
    this.#channel.postMessage("open");
  }

  [Symbol.dispose](): void {
    this.#channel.close();
  }
}

/** The code of the HostError that `work` fails with; "none" if it succeeds. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}

/** Counts the threads of this process from now on. */
export function countThreads(): { started: number; running: number } {
  const count = { started: 0, running: 0 };
  process.on("worker", (worker) => {
    count.started += 1;
    count.running += 1;
    worker.once("exit", () => {
      count.running -= 1;
    });
  });
  return count;
}
