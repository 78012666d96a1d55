import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { create, figuresSince, type GuardFigures } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
} from "../support/host-tenants.ts";

let database: TenantDatabase;
let host: TestHost;
let moved: () => Promise<GuardFigures>;

beforeAll(async () => {
  database = await createTenantDatabase("notifications");
  const tenants = [await database.tenant("ada"), await database.tenant("bob")];
  host = await TestHost.start({
    config: { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling: true },
    connected: database.connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

const revision = async (): Promise<bigint> => {
  const rows = await database.query<{ revision: string }>(
    "select revision::text from rowhouse.schema_revision where schema_name = $1",
    [schemaOf("ada")],
  );
  return BigInt(rows[0]?.revision ?? 0);
};
const decided = async (): Promise<bigint> =>
  BigInt((await host.adminJson("/tenants/ada")).revisions[schemaOf("ada")]);

/** Sends on the channel what any role of the database may send. */
const notify = (payload: string): Promise<unknown> =>
  database.query("select pg_notify('rowhouse_schema', $1)", [payload]);
const notice = (to: bigint): string => JSON.stringify({ schema: schemaOf("ada"), revision: String(to) });

/** Changes bob's schema, and resolves when the host has heard of it, and so of all earlier notifications. */
async function heard(): Promise<void> {
  const before = host.process.linesOf("tenant.changed").filter(({ tenant }) => tenant === "bob").length;
  await host.data("bob", "{ itemByRowId(rowId: 1) { label } }");
  await database.change("bob", "alter table item set (fillfactor = 90)");
  await host.process.until(
    () => host.process.linesOf("tenant.changed").filter(({ tenant }) => tenant === "bob")[before],
    20_000,
  );
}

beforeEach(async () => {
  await database.change("ada", "alter table item set (fillfactor = 80)");
  await heard();
  await host.data("ada", `mutation { ${create("before")} }`);
  await host.data("bob", "{ itemByRowId(rowId: 1) { label } }");
  moved = await figuresSince(host);
});

describe("a notification", () => {
  it("that is late or repeated restores no older revision and causes no reads", async () => {
    const now = await revision();
    expect(await decided()).toBe(now);
    for (const late of [now - 1n, now, 1n, 0n, now - 1n]) await notify(notice(late));
    await heard();
    // The one read is for bob, whose schema did change.
    await host.data("ada", `mutation { ${create("late")} }`);
    await host.data("bob", "{ itemByRowId(rowId: 1) { label } }");
    expect(await moved()).toMatchObject({ failures: 0, retries: 0, reads: 1, builds: 0 });
    expect(await decided()).toBe(now);
  });

  it("that overtakes an earlier one leaves the newest revision in force", async () => {
    const before = await revision();
    // Their own notifications come in order, and forged ones in reverse.
    await database.change("ada", "alter table item set (fillfactor = 70)");
    await database.change("ada", "alter table item set (fillfactor = 60)");
    const now = await revision();
    expect(now).toBeGreaterThan(before + 1n);
    for (const each of [now, now - 1n, before, now]) await notify(notice(each));
    await heard();
    await host.data("ada", `mutation { ${create("newest")} }`);
    expect(await decided()).toBe(now);
    expect(await moved()).toMatchObject({ failures: 0, retries: 0 });
  });

  it("of a revision that the schema never had is checked, and costs its tenant nothing", async () => {
    const now = await revision();
    const before = await host.metric("notice_reads_total");
    await notify(notice(now + 1_000_000n));
    await heard();
    expect(await host.metric("notice_reads_total")).toBeGreaterThan(before);
    await Promise.all([1, 2, 3].map(async (n) => host.data("ada", `mutation { ${create(`forged ${n}`)} }`)));
    expect(await decided()).toBe(now);
    expect(await moved()).toMatchObject({ failures: 0, retries: 0, reads: 0, builds: 0 });
  });

  it("among thousands causes at most ten reads a second in all, and hides no change", async () => {
    const beganMs = performance.now();
    const before = await host.metric("notice_reads_total");
    for (let round = 0; round < 5; round += 1) {
      // Each with another text, since PostgreSQL sends equal ones of a transaction only once.
      await database.query(
        `select pg_notify('rowhouse_schema', json_build_object('schema', schema, 'revision', (1000000000 + n + $1::int)::text)::text)
          from generate_series(1, 2000) n, unnest($2::text[]) schema`,
        [round * 10_000, [schemaOf("ada"), schemaOf("bob"), "public", "nobody's"]],
      );
      await host.data("ada", `mutation { ${create(`flood ${round}`)} }`);
    }
    await heard();
    const reads = (await host.metric("notice_reads_total")) - before;
    expect(reads).toBeGreaterThan(0);
    // Node's timers fire up to a millisecond early.
    expect(reads).toBeLessThanOrEqual(2 + (performance.now() - beganMs) / 99);
    await host.data("bob", "{ itemByRowId(rowId: 1) { label } }");
    expect(await moved()).toMatchObject({ failures: 0, retries: 0, reads: 1, builds: 0 });
  });

  it.each([
    "",
    "{",
    "null",
    "[]",
    "{}",
    '{"schema":1,"revision":"1"}',
    '{"schema":"canary_ada","revision":1}',
    '{"schema":"canary_ada","revision":"-1"}',
    `{"schema":"canary_ada","revision":"${"9".repeat(400)}"}`,
    '{"schema":"__proto__","revision":"5"}',
    `{"schema":"${"x".repeat(7_000)}","revision":"5"}`,
  ])("that is malformed is ignored: %.40s", async (payload) => {
    await notify(payload);
    await heard();
    expect((await host.data("ada", itemsQuery)).allItems.nodes.slice(0, 3)).toEqual(
      itemsOf("ada").allItems.nodes,
    );
    expect(await moved()).toMatchObject({ failures: 0, reads: 0, builds: 0 });
  });
});
