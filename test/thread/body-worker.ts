/** Sends a body until its thread is terminated. */
import { MessagePort, workerData } from "node:worker_threads";
import { sendBody } from "../../src/shared/protocol/body-stream.ts";

async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) {
    yield Buffer.alloc(1024, "x");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

if (workerData instanceof MessagePort) await sendBody(workerData, endless());
