import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { presetFile } from "../support/host-files.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;
let host: TestHost;
const gates = mkdtempSync(join(tmpdir(), "rowhouse-gates-"));

beforeAll(async () => {
  database = await createTenantDatabase("racing");
  // Each gate makes its own blueprint, whose build waits for the test.
  const gated = async (id: string, gate: string) => ({ ...(await database.tenant(id)), settings: { gate } });
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [
        await gated("one", "race"),
        await gated("two", "race"),
        await gated("moving", "ddl"),
        await gated("still", "ddl"),
      ],
      pooling: true,
      preset: presetFile,
    },
    env: { TEST_GATES: gates },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
  rmSync(gates, { recursive: true, force: true });
});

/** Waits until a build is held at the gate. */
async function waiting(gate: string): Promise<void> {
  await vi.waitFor(() => expect(existsSync(join(gates, `${gate}.waiting`))).toBe(true), { timeout: 20_000 });
}

const open = (gate: string): void => writeFileSync(join(gates, `${gate}.open`), "");

describe("first requests that race for one key", () => {
  it("build it once, whichever tenants they are for", async () => {
    const asked = ["one", "two", "one", "two"].map((id) => host.data(id, itemsQuery));
    await waiting("race");
    // All of them have been routed and wait for the same build.
    await vi.waitFor(
      async () =>
        expect(await host.adminJson("/status")).toMatchObject({
          builds: { running: 1, queued: 0 },
          tenants: { decided: 2 },
        }),
      { timeout: 20_000 },
    );
    open("race");
    expect(await Promise.all(asked)).toEqual(["one", "two", "one", "two"].map(itemsOf));
    expect(await host.metric('builds_total{result="ok"}')).toBe(1);
    expect(host.process.linesOf("build.started")).toHaveLength(1);
  });
});

describe("a build that a schema change overtakes", () => {
  it("is not published, and the request that started it is answered from the new schema", async () => {
    const query = "{ itemByRowId(rowId: 1) { weight } }";
    const asked = host.graphql("moving", query);
    await waiting("ddl");
    const old = (await host.adminJson("/tenants/moving")).key;
    await database.change("moving", "alter table item add column weight integer default 7");
    open("ddl");

    expect(await asked).toMatchObject({ status: 200, data: { itemByRowId: { weight: 7 } } });
    expect(await host.process.line("build.failed")).toMatchObject({ key: old, code: "SCHEMA_CHANGED" });
    expect(await host.process.line("request.retried")).toMatchObject({
      tenant: "moving",
      reason: "build-overtaken",
    });
    // Nothing ran, so no guard failed.
    expect(await host.metric("guard_failures_total")).toBe(0);
    expect(await host.metric("guard_retries_total")).toBe(0);
    const { key } = await host.adminJson("/tenants/moving");
    expect(key).not.toBe(old);
    expect(host.process.linesOf("build.done").map((line) => line["key"])).toContain(key);
    expect(host.process.linesOf("build.done").map((line) => line["key"])).not.toContain(old);

    // A tenant that still has the old shape gets an instance of it, built anew.
    expect((await host.adminJson("/tenants/still")).key).toBe(old);
    expect(await host.data("still", itemsQuery)).toEqual(itemsOf("still"));
    expect(await host.graphql("still", query)).toMatchObject({ status: 400 });
  });

  it("once in service is replaced as soon as the change is notified", async () => {
    expect(await host.graphql("moving", "{ itemByRowId(rowId: 1) { height } }")).toMatchObject({
      status: 400,
    });
    await database.change("moving", "alter table item add column height integer default 9");
    const answer = await vi.waitFor(
      async () => {
        const again = await host.graphql("moving", "{ itemByRowId(rowId: 1) { height } }");
        expect(again.status).toBe(200);
        return again;
      },
      { timeout: 20_000 },
    );
    expect(answer.data).toEqual({ itemByRowId: { height: 9 } });
  });
});
