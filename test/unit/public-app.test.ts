import { request } from "undici";
import { afterEach, describe, expect, it } from "vitest";
import type { PublicRequest } from "../../src/http/public/app.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { Answer } from "../../src/shared/protocol/messages.ts";
import { codeIn, get, post, rawConnect, rawRequest } from "../support/http.ts";
import { startPublicApp, type TestApp, textAnswer } from "../support/public-app.ts";

let app: TestApp | undefined;
afterEach(() => app?.close(0));

const start = async (
  handle: (request: PublicRequest) => Promise<Answer> = async () => textAnswer("{}"),
  limits = {},
): Promise<TestApp> => {
  app = await startPublicApp(handle, limits);
  return app;
};

const json = { "content-type": "application/json" };
describe("the public app", () => {
  it("passes on facts, forwarded headers and body, and returns the cell's bytes with a request id", async () => {
    const { url, requests } = await start(async () => textAnswer('{"data":{"ü":1}}'));
    const answer = await request(`${url}/t/acme/graphql?a=%20b`, {
      method: "POST",
      headers: {
        ...json,
        accept: "application/json",
        authorization: "Bearer secret",
        "x-tenant": "acme",
        host: "A.example:81",
      },
      body: '{"query":"{a}"}',
    });
    expect(answer.statusCode).toBe(200);
    expect(await answer.body.text()).toBe('{"data":{"ü":1}}');
    expect(answer.headers["content-length"]).toBe("17");
    const [seen] = requests;
    expect(answer.headers["x-request-id"]).toBe(seen?.requestId);
    expect(seen?.facts).toMatchObject({
      method: "POST",
      path: "/t/acme/graphql",
      query: "a=%20b",
      host: "A.example:81",
    });
    expect(seen?.facts.remoteAddress).toBe("127.0.0.1");
    expect(seen?.facts.header("X-Tenant")).toBe("acme");
    expect(seen?.facts.header("constructor")).toBeNull();
    expect(seen?.headers).toEqual({ ...json, accept: "application/json" });
    expect(seen?.body).toBe('{"query":"{a}"}');
  });

  it("uses a proxy's request id if it is harmless, and its own otherwise", async () => {
    const { url, requests } = await start();
    await request(`${url}/graphql`, { headers: { "x-request-id": "edge-1.2_3" } });
    await request(`${url}/graphql`, { headers: { "x-request-id": 'x" onload=1' } });
    await request(`${url}/graphql`, { headers: { "x-request-id": "y".repeat(129) } });
    expect(requests[0]?.requestId).toBe("edge-1.2_3");
    expect(requests[1]?.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(requests[2]?.requestId).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("answers a client that never finishes its body with 408 at the deadline, and closes", async () => {
    const { port, requests, done } = await start(undefined, { requestTimeoutMs: 100 });
    const answer = await rawRequest(
      port,
      post("{", { "Content-Length": "100" }).replace("Connection: close\r\n", ""),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 408 [\s\S]*connection: close/i);
    expect(codeIn(answer)).toBe("DEADLINE");
    expect(requests).toHaveLength(0);
    expect(await done(1)).toMatchObject({ status: 408, code: "DEADLINE" });
  });

  it("aborts a request at the deadline and answers 408, even if nothing listens to the abort", async () => {
    const { url, requests, done } = await start(() => new Promise(() => {}), { requestTimeoutMs: 50 });
    const answer = await request(`${url}/graphql`);
    expect(answer.statusCode).toBe(408);
    expect(requests[0]?.signal.reason).toMatchObject({ code: "DEADLINE" });
    expect(await done(1)).toMatchObject({ status: 408, code: "DEADLINE" });
  });

  it("cuts off a client that does not read its answer by the deadline", async () => {
    const { port, done } = await start(async () => textAnswer("x".repeat(32_000_000)), {
      requestTimeoutMs: 200,
    });
    const { send, socket } = await rawConnect(port);
    socket.pause();
    send(get("/graphql", "Host: a"));
    expect(await done(1)).toMatchObject({ status: 200, code: "DEADLINE" });
    socket.destroy();
  });

  it("aborts a request with CANCELLED when its client goes away", async () => {
    const started = Promise.withResolvers<PublicRequest>();
    const { port, done } = await start((incoming) => {
      started.resolve(incoming);
      return new Promise((_resolve, reject) => {
        incoming.signal.addEventListener("abort", () => reject(incoming.signal.reason));
      });
    });
    const { send, socket } = await rawConnect(port);
    send(get("/graphql", "Host: a"));
    const { signal } = await started.promise;
    expect(signal.aborted).toBe(false);
    socket.destroy();
    expect(await done(1)).toMatchObject({ status: 499, code: "CANCELLED" });
    expect(signal.reason).toMatchObject({ code: "CANCELLED" });
  });

  it("does not pass on a request whose client leaves in mid-body", async () => {
    const { port, requests, done } = await start();
    const { send, socket } = await rawConnect(port);
    send(post("{", { "Content-Length": "100" }));
    socket.end();
    expect(await done(1)).toMatchObject({ code: "CANCELLED" });
    expect(requests).toHaveLength(0);
  });

  it("answers 503 and closes while the host drains", async () => {
    const running = await start();
    running.phase = "draining";
    const answer = await rawRequest(running.port, post("{}").replace("Connection: close\r\n", ""));
    expect(answer).toMatch(/^HTTP\/1\.1 503 [\s\S]*connection: close/i);
    expect(answer).toMatch(/retry-after: \d/i);
    expect(codeIn(answer)).toBe("SHUTTING_DOWN");
    expect(running.requests).toHaveLength(0);
  });

  it("gives a client a failure's code and public text, and the log its cause", async () => {
    const { url, observations, done } = await start(async (incoming) => {
      incoming.routed(tenantId("acme"));
      throw new TypeError("password of app_user is hunter2");
    });
    const answer = await request(`${url}/graphql`, { headers: { "x-request-id": "r1" } });
    expect(answer.statusCode).toBe(500);
    expect(await answer.body.json()).toEqual({
      errors: [
        { message: "An unexpected error occurred.", extensions: { code: "INTERNAL", requestId: "r1" } },
      ],
    });
    expect(await done(1)).toMatchObject({ status: 500, code: "INTERNAL", tenant: "acme", requestId: "r1" });
    const failed = observations.find((observation) => observation.kind === "request.failed");
    expect(failed).toMatchObject({ code: "INTERNAL", tenant: "acme", error: { message: /hunter2/ } });
  });

  it("answers 500 where something other than an Error is thrown, which tenant modules may do", async () => {
    const { url, done } = await start(() => Promise.reject("a text"));
    const answer = await request(`${url}/graphql`);
    expect([answer.statusCode, codeIn(await answer.body.text())]).toEqual([500, "INTERNAL"]);
    expect(await done(1)).toMatchObject({ status: 500, code: "INTERNAL" });
  });

  it("answers a retryable failure with 503 and Retry-After", async () => {
    const { url } = await start(() =>
      Promise.reject(new HostError("BUILD_HELD", "held", { retryAfterSeconds: 7.2 })),
    );
    const answer = await request(`${url}/graphql`);
    expect(answer.statusCode).toBe(503);
    expect(answer.headers["retry-after"]).toBe("8");
  });

  it("keeps a connection for the next request, also after a failure", async () => {
    const { port } = await start(() => Promise.reject(new HostError("TENANT_UNKNOWN")));
    const { send, until } = await rawConnect(port);
    const one = post("{}").replace("Connection: close\r\n", "");
    send(one);
    await until(/TENANT_UNKNOWN/);
    send(one);
    await until(/TENANT_UNKNOWN[\s\S]*TENANT_UNKNOWN/);
  });

  it("forbids framing of pages and content-type sniffing", async () => {
    const { url } = await start(async () => ({
      kind: "bytes",
      status: 200,
      headers: { "content-type": "text/html; charset=utf-8" },
      body: Buffer.from("<!doctype html>"),
    }));
    const { headers, body } = await request(`${url}/graphql`);
    expect(await body.text()).toBe("<!doctype html>");
    expect(headers).toMatchObject({
      "x-content-type-options": "nosniff",
      "content-security-policy": "frame-ancestors 'none'",
      "content-length": "15",
    });
    expect(headers["x-powered-by"]).toBeUndefined();
  });

  it("answers 304 without a body", async () => {
    const { url } = await start(async () => ({
      kind: "text",
      status: 304,
      headers: { etag: '"a"' },
      body: "",
    }));
    const { statusCode, headers } = await request(`${url}/ruru.js`);
    expect(statusCode).toBe(304);
    expect(headers["content-length"]).toBeUndefined();
  });
});
