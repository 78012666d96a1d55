import { once } from "node:events";
import { MessageChannel } from "node:worker_threads";
import { expect, it } from "vitest";
import { startThread } from "../../src/cell/start-thread.ts";
import { cellId } from "../../src/kernel/ids.ts";

it("a cell that nobody builds in gives back what loading left, within a few pings", async () => {
  const [pool, worker] = startThread({
    workerData: {
      cell: cellId(1),
      applicationName: "rowhouse:test",
      databases: {},
      preset: null,
      graphiql: false,
      production: true,
      resultBytes: 2 ** 20,
      operations: { fields: 1_000, depth: 16, introspection: true },
      statementTimeoutMs: 30_000,
      ledger: new SharedArrayBuffer(8),
    },
    v8LimitMb: 256,
    youngMb: 16,
  });
  const { port1, port2 } = new MessageChannel();
  const heldBytes = async (): Promise<number> => (await worker.getHeapStatistics()).total_physical_size;
  try {
    await pool.run({ kind: "open", port: port2 }, { transferList: [port2] });
    const loaded = await heldBytes();
    for (let pings = 0; pings < 5; pings += 1) {
      port1.postMessage({ kind: "ping" });
      await once(port1, "message");
    }
    await expect.poll(heldBytes, { timeout: 20_000 }).toBeLessThan(loaded - 4 * 2 ** 20);
  } finally {
    port1.close();
    await pool.destroy();
  }
});
