import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { request } from "undici";
import { afterEach, describe, expect, it } from "vitest";
import { sendBody, windowBytes } from "../../src/shared/protocol/body-stream.ts";
import type { Answer } from "../../src/shared/protocol/messages.ts";
import { codeIn, get, rawConnect } from "../support/http.ts";
import { startPublicApp, type TestApp } from "../support/public-app.ts";

let app: TestApp | undefined;
afterEach(() => app?.close(0));

const streamAnswer = (port: MessagePort): Answer => ({
  kind: "stream",
  status: 200,
  headers: { "content-type": "multipart/mixed" },
  port,
});

/** Answers every request with `source`, and reports how each transfer ended. */
async function serveSource(source: () => AsyncIterable<Uint8Array>, limits = {}) {
  const ends: Promise<unknown>[] = [];
  app = await startPublicApp(async () => {
    const { port1, port2 } = new MessageChannel();
    ends.push(sendBody(port1, source()));
    return streamAnswer(port2);
  }, limits);
  return { ...app, app, ends };
}

async function* endless(chunk: Uint8Array, count = { chunks: 0 }): AsyncGenerator<Uint8Array> {
  for (;;) {
    count.chunks += 1;
    yield chunk;
  }
}

describe("a streamed answer", () => {
  it("reaches the client piece by piece, the first before the last is produced", async () => {
    const gate = Promise.withResolvers<void>();
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("first");
      await gate.promise;
      yield Buffer.from("last");
    }
    const { port, ends } = await serveSource(source);
    const { send, until, received } = await rawConnect(port);
    send(get("/graphql", "Host: a"));
    await until(/first/);
    gate.resolve();
    expect(await received).toMatch(/first[\s\S]*last\r\n0\r\n\r\n$/);
    expect(await ends[0]).toBeNull();
  });

  it("pauses for a client that does not read, and continues when it does", async () => {
    const count = { chunks: 0 };
    const { port } = await serveSource(() => endless(new Uint8Array(windowBytes), count));
    const { send, socket, until } = await rawConnect(port);
    await (async () => {
      send(get("/graphql", "Host: a"));
      await until(/200 OK/);
      socket.pause();
    })();
    for (let quiet = 0, last = -1; quiet < 30; quiet += 1) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (count.chunks !== last) quiet = 0;
      last = count.chunks;
    }
    // The kernel's buffers take a few MB on loopback; an unlimited source would produce hundreds in this time.
    const stuckAt = count.chunks;
    expect(stuckAt).toBeLessThan(100);
    socket.resume();
    await expect.poll(() => count.chunks).toBeGreaterThan(stuckAt);
    socket.destroy();
  });

  it("is cut off, not ended, if its thread is terminated in mid-stream", async () => {
    const workers: Worker[] = [];
    app = await startPublicApp(async () => {
      const { port1, port2 } = new MessageChannel();
      const entry = new URL("body-worker.ts", import.meta.url);
      workers.push(new Worker(entry, { workerData: port1, transferList: [port1] }));
      return streamAnswer(port2);
    });
    const { send, until, received } = await rawConnect(app.port);
    send(get("/graphql", "Host: a"));
    await until(/xxxx/);
    await workers[0]?.terminate();
    expect(await received).not.toMatch(/\r\n0\r\n\r\n$/);
    expect(await app.done(1)).toMatchObject({ status: 200, code: "CELL_LOST" });
  });

  it("stops its source when the client goes away, even while the source is silent", async () => {
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("first");
      await new Promise(() => {});
    }
    const { port, ends, app: running } = await serveSource(source);
    const { send, until, socket } = await rawConnect(port);
    send(get("/graphql", "Host: a"));
    await until(/first/);
    socket.destroy();
    expect(await ends[0]).toMatchObject({ code: "CANCELLED" });
    expect(await running.done(1)).toMatchObject({ code: "CANCELLED" });
  });

  it("is cut off at the deadline", async () => {
    const {
      port,
      ends,
      app: running,
    } = await serveSource(() => endless(Buffer.from("x".repeat(1024))), {
      requestTimeoutMs: 100,
    });
    const { send, received } = await rawConnect(port);
    send(get("/graphql", "Host: a"));
    expect(await received).not.toMatch(/\r\n0\r\n\r\n$/);
    expect(await ends[0]).toMatchObject({ code: "DEADLINE" });
    expect(await running.done(1)).toMatchObject({ code: "DEADLINE" });
  });

  it.each<[string, Partial<Answer>]>([
    ["header", { headers: { vary: "a\nb" } }],
    ["status", { status: 99 }],
  ])("whose %s cannot be sent is INTERNAL, and stops its source", async (_, more) => {
    const { port1, port2 } = new MessageChannel();
    const end = sendBody(port1, endless(new Uint8Array(windowBytes)));
    app = await startPublicApp(async () => ({ ...streamAnswer(port2), ...more }) as Answer);
    const { statusCode, body } = await request(`${app.url}/graphql`);
    expect([statusCode, codeIn(await body.text())]).toEqual([500, "INTERNAL"]);
    expect(await end).toMatchObject({ code: "CANCELLED" });
  });

  it("that comes after the deadline stops its source", async () => {
    const late = Promise.withResolvers<Answer>();
    app = await startPublicApp(() => late.promise, { requestTimeoutMs: 20 });
    expect((await request(`${app.url}/graphql`)).statusCode).toBe(408);
    const { port1, port2 } = new MessageChannel();
    const end = sendBody(port1, endless(new Uint8Array(windowBytes)));
    late.resolve(streamAnswer(port2));
    expect(await end).toMatchObject({ code: "CANCELLED" });
  });
});

describe("closing the listener", () => {
  it("lets a request in flight end, and ends an idle connection at once", async () => {
    const release = Promise.withResolvers<void>();
    const running = await startPublicApp(async ({ facts }) => {
      if (facts.path === "/slow") await release.promise;
      return { kind: "text", status: 200, headers: {}, body: facts.path };
    });
    app = running;
    const idle = await rawConnect(running.port);
    idle.send("GET /idle HTTP/1.1\r\nHost: a\r\n\r\n");
    await idle.until(/\/idle$/);
    const slow = await rawConnect(running.port);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    await expect.poll(() => running.requests.length).toBe(2);
    const closed = running.close(10_000);
    await idle.received;
    expect(slow.socket.readyState).toBe("open");
    release.resolve();
    expect(await slow.received).toMatch(/200 OK[\s\S]*\/slow$/);
    await closed;
  });

  it("announces with a pending answer that the connection ends, so that no further request is lost on it", async () => {
    const release = Promise.withResolvers<Answer>();
    const running = await startPublicApp(() => release.promise);
    app = running;
    const waiting = await rawConnect(running.port);
    waiting.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    await expect.poll(() => running.requests.length).toBe(2);
    const closed = running.close(10_000);
    release.resolve({ kind: "text", status: 200, headers: {}, body: "." });
    // The first of two does not announce it, as the second is still to come.
    expect((await waiting.received).match(/^connection: \S+/gim)).toEqual([
      "Connection: keep-alive",
      "Connection: close",
    ]);
    await closed;
  });

  it("cuts a request that does not complete within the drain time", async () => {
    const running = await startPublicApp(() => new Promise(() => {}));
    const { send, received } = await rawConnect(running.port);
    send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await expect.poll(() => running.requests.length).toBe(1);
    await running.close(20);
    expect(await received).toBe("");
    expect(await running.done(1)).toMatchObject({ status: 499, code: "CANCELLED" });
    expect(running.requests[0]?.signal.reason).toMatchObject({ code: "CANCELLED" });
  });

  it("says what to do about a port in use", async () => {
    app = await startPublicApp(() => new Promise(() => {}));
    const { port } = app;
    const { listen } = await import("../../src/http/server.ts");
    await expect(
      listen(
        async () => {},
        { host: "127.0.0.1", port },
        () => {},
      ),
    ).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining("choose another port"),
    });
    await expect(
      listen(
        async () => {},
        { host: "203.0.113.1", port: 0 },
        () => {},
      ),
    ).rejects.toMatchObject({ code: "CONFIG_INVALID", message: expect.stringContaining("no such address") });
  });
});
