import { afterEach, describe, expect, it } from "vitest";
import { closeAdminApps, startAdminApp as start } from "../support/admin-app.ts";

afterEach(closeAdminApps);

describe("the admin app", () => {
  it("answers the probes, status, metrics and tenants", async () => {
    const { ask } = await start();
    expect(await ask("/healthz")).toMatchObject({ status: 200, text: "ok" });
    expect(await ask("/readyz")).toMatchObject({ status: 200, text: "ok" });
    expect(JSON.parse((await ask("/status")).text)).toMatchObject({ version: "1" });
    expect(await ask("/metrics")).toMatchObject({ status: 200, text: "rowhouse_cells 1\n" });
    expect(JSON.parse((await ask("/tenants/acme")).text)).toMatchObject({ id: "acme" });
    expect(await ask("/tenants/nobody")).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" });
  });

  it("says 503 on readyz while the host is not ready", async () => {
    const { ask } = await start({ ready: false });
    expect((await ask("/readyz")).status).toBe(503);
  });

  it("answers 404 for unknown paths and 405 for the wrong method", async () => {
    const { ask } = await start();
    expect(await ask("/nothing")).toMatchObject({ status: 404, code: "NOT_FOUND" });
    const allows = (allow: string) => ({ status: 405, code: "METHOD_NOT_ALLOWED", headers: { allow } });
    expect(await ask("/evict")).toMatchObject(allows("POST"));
    expect(await ask("/tenants/acme/migrate")).toMatchObject(allows("POST"));
    expect(await ask("/status", { method: "PUT" })).toMatchObject(allows("GET, HEAD"));
    expect(await ask("/tenants/acme", { method: "PUT" })).toMatchObject(allows("GET, HEAD"));
  });

  it("names the accepted media type, which excludes some that GraphQL accepts", async () => {
    const { ask } = await start();
    const refused = await ask("/evict", { method: "POST", body: "x" });
    expect(refused).toMatchObject({ status: 415, code: "MEDIA_TYPE" });
    expect(refused.text).toMatch(/must be application\/json\./);
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

  it("migrates a tenant with long SQL, and reports the facts of a refusal", async () => {
    const { post, ask, migrated } = await start();
    const sql = `select '${"x".repeat(100_000)}'`;
    expect(await post("/tenants/acme/migrate", { sql })).toMatchObject({
      status: 200,
      text: expect.stringMatching(/^\{"tenant":"acme","from":/),
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

  it("hides internal errors, and logs them under the request's id", async () => {
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
