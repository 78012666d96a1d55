import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TenantGuard } from "../../src/shared/model/tenant-binding.ts";
import type { WireError } from "../../src/shared/protocol/messages.ts";
import { fromWireError, toWireError } from "../../src/shared/protocol/wire-error.ts";
import type { TestDatabase } from "../support/database.ts";
import { guardOf, installGuard } from "../support/guard-control.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

let database: TestDatabase;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await adaptorDatabase("guard_report", ["ida"]);
  await installGuard(database);
  bench = adaptorOn(database, 1);
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

const current = (): Promise<TenantGuard> => guardOf(database, "ida");

/** The failure of a write under `guard`, as sent by the thread and as received by the front. */
async function failure(guard: TenantGuard, text: string): Promise<{ sent: WireError; got: Error }> {
  const { settings } = bench.request("ida", { guard });
  const sent = await bench
    .withPgClient(settings, (client) => client.query({ text }))
    .then(() => toWireError(new Error("it did not fail")), toWireError);
  return { sent, got: fromWireError(structuredClone(sent)) };
}

describe("the failure of a guard", () => {
  it("carries the revisions that the schemas have moved to", async () => {
    const planned = await current();
    await database.execute("comment on table ida.item is 'moved'");
    const { sent, got } = await failure(planned, "insert into item values (2, 'new')");
    expect(sent.code).toBe("SCHEMA_CHANGED");
    const [revision] = (await current()).revisions;
    expect(revision).not.toBe(planned.revisions[0]);
    expect(JSON.parse(sent.revisions ?? "")).toEqual({ ida: revision });
    expect(got).toMatchObject({ code: "SCHEMA_CHANGED", revisions: sent.revisions });
  });

  it("is not concluded from an error that a tenant's function raises, whatever the function's name", async () => {
    await database.execute(`
      create function ida."rowhouse.assert_revisions("() returns void language plpgsql as $$
        begin raise exception sqlstate 'RW409' using detail = '{"ida": "9000"}'; end $$`);
    const { sent, got } = await failure(await current(), `select "rowhouse.assert_revisions("()`);
    expect(sent.code).toBe("INTERNAL");
    expect(sent).not.toHaveProperty("revisions");
    expect(got).not.toHaveProperty("revisions");
  });
});
