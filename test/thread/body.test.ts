import { once } from "node:events";
import { MessageChannel, Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { discardBody, receiveBody, sendBody, windowBytes } from "../../src/shared/protocol/body-stream.ts";

const text = async (stream: ReadableStream<Uint8Array>): Promise<string> => new Response(stream).text();

/** A source that counts its chunks, and knows when it was released. */
function counted(chunk: Uint8Array, chunks = Number.POSITIVE_INFINITY) {
  const released = Promise.withResolvers<void>();
  const state = { pulled: 0, released: released.promise };
  async function* source(): AsyncGenerator<Uint8Array> {
    try {
      while (state.pulled < chunks) {
        state.pulled += 1;
        yield chunk;
      }
    } finally {
      released.resolve();
    }
  }
  return { state, source: source() };
}

/** Waits until the sender has stopped, that is, until `progress` has not changed over many turns of the loop. */
async function settled(progress: () => number): Promise<void> {
  for (let quiet = 0, last = -1; quiet < 20; quiet += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (progress() !== last) quiet = 0;
    last = progress();
  }
}

describe("a body over a MessagePort", () => {
  it("arrives complete and in order, chunks larger than the window included", async () => {
    const { port1, port2 } = new MessageChannel();
    const big = Buffer.alloc(windowBytes * 3 + 17, "x");
    const sent = sendBody(
      port1,
      ReadableStream.from([Buffer.from("a"), Buffer.alloc(0), big, Buffer.from("z")]),
    );
    expect(await text(receiveBody(port2))).toBe(`a${"x".repeat(big.length)}z`);
    expect(await sent).toBeNull();
  });

  it("leaves the source's own buffers intact, so that a cached asset can be sent twice", async () => {
    const asset = Buffer.from(new Uint8Array(100).fill(65).buffer);
    for (let turn = 0; turn < 2; turn += 1) {
      const { port1, port2 } = new MessageChannel();
      const sent = sendBody(port1, ReadableStream.from([asset]));
      expect(await text(receiveBody(port2))).toBe("A".repeat(100));
      await sent;
    }
  });

  it("stops pulling its source once a window is unread, and continues when it is read", async () => {
    const { port1, port2 } = new MessageChannel();
    const chunk = new Uint8Array(windowBytes / 8);
    const { state, source } = counted(chunk, 64);
    const sent = sendBody(port1, source);
    const reader = receiveBody(port2).getReader();
    await settled(() => state.pulled);
    // One more chunk is with the sender, waiting for credit.
    expect(state.pulled).toBeLessThanOrEqual(9);

    let bytes = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read())
      bytes += part.value.byteLength;
    expect(bytes).toBe(chunk.byteLength * 64);
    expect(await sent).toBeNull();
  });

  it("ends with the source's error, code and message, not as if it were complete", async () => {
    const { port1, port2 } = new MessageChannel();
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("half");
      throw new HostError("RESULT_TOO_LARGE", "too many bytes");
    }
    const sent = sendBody(port1, source());
    await expect(text(receiveBody(port2))).rejects.toMatchObject({
      code: "RESULT_TOO_LARGE",
      message: "too many bytes",
    });
    expect(await sent).toMatchObject({ code: "RESULT_TOO_LARGE" });
  });

  it("releases the source when the reader cancels, even while it waits for credit", async () => {
    const { port1, port2 } = new MessageChannel();
    const { state, source } = counted(new Uint8Array(windowBytes));
    const sent = sendBody(port1, source);
    const stream = receiveBody(port2);
    await settled(() => state.pulled);
    await stream.cancel(new HostError("DEADLINE"));
    await state.released;
    expect(await sent).toMatchObject({ code: "DEADLINE" });
  });

  it("ends when the reader cancels, even if the source never yields again", async () => {
    const { port1, port2 } = new MessageChannel();
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("first");
      await new Promise(() => {});
    }
    const sent = sendBody(port1, source());
    const reader = receiveBody(port2).getReader();
    await reader.read();
    await reader.cancel();
    expect(await sent).toMatchObject({ code: "CANCELLED" });
  });

  it("ends with the reason on both sides when the sender's signal aborts", async () => {
    const { port1, port2 } = new MessageChannel();
    const abort = new AbortController();
    const { state, source } = counted(new Uint8Array(1024));
    const sent = sendBody(port1, source, abort.signal);
    const reader = receiveBody(port2).getReader();
    await reader.read();
    abort.abort(new HostError("DEADLINE"));
    await state.released;
    expect(await sent).toMatchObject({ code: "DEADLINE" });
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toMatchObject({ code: "DEADLINE" });
  });

  it("releases the source if it is discarded unread", async () => {
    const { port1, port2 } = new MessageChannel();
    const { state, source } = counted(new Uint8Array(windowBytes));
    const sent = sendBody(port1, source);
    discardBody(port2);
    await state.released;
    expect(await sent).toMatchObject({ code: "CANCELLED" });
  });

  it("fails with CELL_LOST if its thread is terminated in mid-stream", async () => {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(new URL("body-worker.ts", import.meta.url), {
      workerData: port1,
      transferList: [port1],
    });
    const reader = receiveBody(port2).getReader();
    expect((await reader.read()).value?.byteLength).toBeGreaterThan(0);
    const gone = once(worker, "exit");
    await worker.terminate();
    await gone;
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toMatchObject({ code: "CELL_LOST" });
  });

  it("fails as INTERNAL on a message outside the protocol", async () => {
    const { port1, port2 } = new MessageChannel();
    const stream = receiveBody(port2);
    port1.postMessage({ kind: "piece", bytes: "not bytes" });
    await expect(text(stream)).rejects.toMatchObject({ code: "INTERNAL" });
  });
});
