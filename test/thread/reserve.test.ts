import { once } from "node:events";
import { MessageChannel } from "node:worker_threads";
import { expect, it } from "vitest";
import { Thread } from "../../src/fleet/cell/thread.ts";
import { cellId } from "../../src/shared/kernel/ids.ts";
import { encodeTasks } from "../../src/shared/protocol/codec.ts";
import type { LaneTask } from "../../src/shared/protocol/messages.ts";
import { operationLimits } from "../support/operation-limits.ts";
import { patchStates } from "../support/patches.ts";
import { requestTask } from "../support/request-task.ts";

const setup = {
  cell: cellId(1),
  applicationName: "rowhouse:test",
  databases: {},
  preset: null,
  requestHeaders: [],
  graphiql: false,
  production: true,
  resultBytes: 2 ** 20,
  operations: operationLimits,
  statementTimeoutMs: 30_000,
  patches: patchStates(),
  ledger: new SharedArrayBuffer(4096),
};

/** A task for no instance: it is refused, but still leaves garbage. */
function taskOf(number: number): LaneTask {
  return {
    kind: "numbered",
    together: false,
    number,
    task: requestTask({
      slot: number % 1_000,
      binding: JSON.stringify({ tenant: `t${number}`, searchPath: Array.from({ length: 20 }, String) }),
    }),
  };
}

it("a cell returns the memory left by loading, and later by requests, within a few idle pings", async () => {
  const ignored = { failed: () => undefined, exited: () => undefined };
  const thread = new Thread({ workerData: setup, v8LimitMb: 256, youngMb: 32 }, ignored);
  const { port1, port2 } = new MessageChannel();
  const heldBytes = async (): Promise<number> =>
    (await thread.worker.getHeapStatistics()).total_physical_size;
  const ping = async (): Promise<void> => {
    port1.postMessage({ kind: "ping" });
    await once(port1, "message");
  };
  const rest = async (): Promise<void> => {
    for (let pings = 0; pings < 5; pings += 1) await ping();
  };
  // V8 also returns some memory on its own, after eight seconds.
  const fallsTo = (bytes: number): Promise<void> =>
    expect.poll(heldBytes, { timeout: 4_000 }).toBeLessThan(bytes);
  try {
    await thread.run<null>({ kind: "open", port: port2 }, [port2]);
    const loaded = await heldBytes();
    await rest();
    await fallsTo(loaded - 4 * 2 ** 20);
    for (let batch = 0; batch < 40; batch += 1) {
      const tasks = Array.from({ length: 1_000 }, (_, index) => taskOf(batch * 1_000 + index));
      port1.postMessage({ kind: "tasks", encoded: encodeTasks(tasks) });
      await once(port1, "message");
      // A cell with requests in between is not idle.
      await ping();
    }
    const served = await heldBytes();
    await rest();
    await fallsTo(served - 8 * 2 ** 20);
  } finally {
    port1.close();
    await thread.end();
  }
});
