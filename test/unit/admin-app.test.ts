import { request } from "undici";
import { afterEach, describe, expect, it } from "vitest";
import { createAdminApp, type EvictTarget, type MigrateRequest } from "../../src/http/admin.ts";
import { type Listening, listen } from "../../src/http/listener.ts";
import { HostError } from "../../src/kernel/errors.ts";
import type { Observation } from "../../src/kernel/observation.ts";

const token = "0123456789abcdef";
let running: Listening | undefined;
afterEach(() => running?.close(0));

async function start(options: { token?: string | null; ready?: boolean; status?: () => unknown } = {}) {
  const evicted: EvictTarget[] = [];
  const migrated: (MigrateRequest & { id: string })[] = [];
  const observations: Observation[] = [];
  const app = createAdminApp({
    token: options.token ?? null,
    observe: (observation) => observations.push(observation),
    metricsText: async () => ({ contentType: "text/plain; version=0.0.4", text: "rowhouse_cells 1\n" }),
    operations: {
      health: () => true,
      ready: () => options.ready ?? true,
      status: options.status ?? (() => ({ version: "1" })),
      tenant: async (id) => {
        if (id !== "acme") throw new HostError("TENANT_UNKNOWN");
        return { id };
      },
      evict: async (target) => {
        evicted.push(target);
        return { evicted: [target] };
      },
      flush: async () => ({ evicted: [] }),
      migrate: async (id, request) => {
        if (request.expect !== undefined) {
          throw new HostError("SCHEMA_CHANGED", "inner", { details: { shape: "f00" } });
        }
        migrated.push({ id, ...request });
        return { tenant: id };
      },
    },
  });
  running = await listen(app, { host: "127.0.0.1", port: 0 }, () => {});
  const { url } = running;
  const ask = async (
    path: string,
    options: { method?: "GET" | "POST" | "PUT"; headers?: Record<string, string>; body?: string } = {},
  ) => {
    const answer = await request(url + path, { method: "GET", ...options });
    const text = await answer.body.text();
    const code = /"code":"(\w+)"/.exec(text)?.[1];
    return { status: answer.statusCode, headers: answer.headers, text, code };
  };
  const post = (path: string, body: unknown, headers = {}) =>
    ask(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  return { ask, post, evicted, migrated, observations };
}

describe("the admin app", () => {
  it("answers the probes, status, metrics and tenants", async () => {
    const { ask } = await start();
    expect(await ask("/healthz")).toMatchObject({ status: 200, text: "ok" });
    expect(await ask("/readyz")).toMatchObject({ status: 200, text: "ok" });
    expect(JSON.parse((await ask("/status")).text)).toEqual({ version: "1" });
    expect(await ask("/metrics")).toMatchObject({ status: 200, text: "rowhouse_cells 1\n" });
    expect(JSON.parse((await ask("/tenants/acme")).text)).toEqual({ id: "acme" });
    expect(await ask("/tenants/nobody")).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" });
  });

  it("says 503 on readyz while the host is not ready", async () => {
    const { ask } = await start({ ready: false });
    expect((await ask("/readyz")).status).toBe(503);
  });

  it("answers 404 for what is not there and 405 for the wrong method", async () => {
    const { ask } = await start();
    expect(await ask("/nothing")).toMatchObject({ status: 404, code: "NOT_FOUND" });
    expect(await ask("/evict")).toMatchObject({ status: 405, code: "METHOD_NOT_ALLOWED" });
    expect(await ask("/status", { method: "PUT" })).toMatchObject({ status: 405 });
  });

  it.each(["/status", "/metrics", "/tenants/acme", "/tenants/acme/migrate", "/evict", "/flush", "/nothing"])(
    "with a token, keeps %s from whoever does not have it, and the probes open",
    async (path) => {
      const { ask } = await start({ token });
      for (const authorization of [
        undefined,
        "Bearer",
        `Bearer ${token}x`,
        `Bearer ${token.slice(1)}`,
        `Basic ${token}`,
      ]) {
        const answer = await ask(path, { headers: authorization === undefined ? {} : { authorization } });
        expect(answer).toMatchObject({ status: 401, code: "UNAUTHORIZED" });
        expect(answer.headers["www-authenticate"]).toBe("Bearer");
      }
      expect((await ask("/healthz")).status).toBe(200);
      expect((await ask("/readyz")).status).toBe(200);
      expect((await ask(path, { headers: { authorization: `bearer ${token}` } })).status).not.toBe(401);
    },
  );

  it.each([
    ["localhost:5679", 200],
    ["127.0.0.1", 200],
    ["[::1]:5679", 200],
    ["evil.example", 401],
    ["127.0.0.1.evil.example", 401],
    ["localhost.evil.example:5679", 401],
  ])("without a token, answers a Host header of %s with %i", async (host, status) => {
    const { ask } = await start();
    expect((await ask("/status", { headers: { host } })).status).toBe(status);
  });

  it("takes no POST that a web page's form could send", async () => {
    const { post, evicted } = await start();
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/graphql"]) {
      expect(await post("/evict", { cell: "c1" }, { "content-type": type })).toMatchObject({ status: 415 });
      expect(await post("/flush", {}, { "content-type": type })).toMatchObject({ status: 415 });
    }
    expect(evicted).toEqual([]);
  });

  it("flushes for a bare POST, but not for one that a web page sends", async () => {
    const { ask } = await start();
    expect((await ask("/flush", { method: "POST" })).status).toBe(200);
    for (const headers of [
      { origin: "https://evil.example" },
      { referer: "https://evil.example/" },
      { "sec-fetch-site": "cross-site" },
    ]) {
      expect(await ask("/flush", { method: "POST", headers })).toMatchObject({ status: 415 });
    }
    expect(await ask("/evict", { method: "POST" })).toMatchObject({ status: 415 });
  });

  it("evicts by exactly one of key, cell and tenant", async () => {
    const { post, evicted } = await start();
    expect((await post("/evict", { cell: "c1" })).status).toBe(200);
    expect((await post("/evict", { tenant: "acme" })).status).toBe(200);
    expect((await post("/flush", "")).status).toBe(200);
    expect(evicted).toEqual([{ cell: "c1" }, { tenant: "acme" }]);
    for (const [body, names] of [
      [{ cell: 1 }, "cell"],
      [{ sell: "c1" }, "sell"],
      [{}, "exactly one"],
      [{ cell: "c1", tenant: "acme" }, "exactly one"],
      ["{", "not JSON"],
      [[], "expected object"],
    ] as const) {
      const answer = await post("/evict", body);
      expect(answer).toMatchObject({ status: 400, code: "BAD_REQUEST" });
      expect(answer.text).toContain(names);
    }
    expect(await post("/evict", { key: "x".repeat(70_000) })).toMatchObject({ status: 413 });
    expect(evicted).toHaveLength(2);
  });

  it("migrates a tenant by SQL that may be long, and tells the facts of a refusal", async () => {
    const { post, ask, migrated } = await start();
    const sql = `select '${"x".repeat(100_000)}'`;
    expect(await post("/tenants/acme/migrate", { sql })).toMatchObject({
      status: 200,
      text: '{"tenant":"acme"}',
    });
    const refused = await post("/tenants/acme/migrate", { sql, expect: "bad" });
    expect(refused).toMatchObject({ status: 409, code: "SCHEMA_CHANGED" });
    expect(JSON.parse(refused.text).errors[0].extensions).toEqual({ code: "SCHEMA_CHANGED", shape: "f00" });
    expect(migrated).toEqual([{ id: "acme", sql }]);
    for (const body of [{}, { sql: "" }, { sql: 1 }, { sql: "select '\0'" }, { sql, force: true }]) {
      expect(await post("/tenants/acme/migrate", body)).toMatchObject({ status: 400, code: "BAD_REQUEST" });
    }
    expect(await ask("/tenants/acme/migrate")).toMatchObject({ status: 405 });
    expect(await post("/tenants/acme/migrate", { sql }, { "content-type": "text/plain" })).toMatchObject({
      status: 415,
    });
    expect(migrated).toHaveLength(1);
  });

  it("hides what went wrong inside, and logs it under the request's id", async () => {
    const { ask, observations } = await start({
      status: () => {
        throw new Error("inner detail");
      },
    });
    const answer = await ask("/status", { headers: { "x-request-id": "r1" } });
    expect(answer).toMatchObject({ status: 500, code: "INTERNAL" });
    expect(answer.text).not.toContain("inner detail");
    expect(observations).toMatchObject([
      { kind: "request.failed", requestId: "r1", error: { message: "inner detail" } },
    ]);
  });
});
