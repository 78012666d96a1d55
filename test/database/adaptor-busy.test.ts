import { afterAll, beforeAll, expect, it } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

let database: TestDatabase;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await adaptorDatabase("busy", ["busy"]);
  bench = adaptorOn(database);
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

it("a pool that stays busy fails the request with NO_CAPACITY, never as an unreachable database", async () => {
  const [long, waiting] = [bench.request("busy"), bench.request("busy")];
  const sleeping = bench.read(long, "select pg_sleep(12)::text");
  await expect(bench.read(waiting, "select name from item")).rejects.toMatchObject({ code: "NO_CAPACITY" });
  expect(waiting.scope.hostFailure).toMatchObject({ code: "NO_CAPACITY", retryable: true });
  await sleeping;
  expect(await bench.read(bench.request("busy"), "select name from item")).toEqual([{ name: "busy" }]);
});
