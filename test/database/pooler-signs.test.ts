import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { openPassingPooler, type PassingPooler } from "../support/passing-pooler.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

let database: TestDatabase;
let pooler: PassingPooler;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await adaptorDatabase("signs", ["ada", "bob"]);
  pooler = await openPassingPooler(database.url);
  bench = adaptorOn({ ...database, url: pooler.url });
});

afterAll(async () => {
  await bench.close();
  await pooler.close();
  await database.drop();
});

const pids = async (times: number): Promise<Set<unknown>> => {
  const seen = new Set<unknown>();
  for (let n = 0; n < times; n += 1) {
    const [row] = await bench.read(bench.request("ada"), "select pg_backend_pid() as pid");
    seen.add(JSON.stringify(row));
  }
  return seen;
};

describe("an undeclared pooler", () => {
  it("is noticed by missing prepared statements: no read or write fails, and nothing is prepared from then on", async () => {
    for (let n = 0; n < 20; n += 1) {
      for (const tenant of ["ada", "bob"]) {
        const request = bench.request(tenant);
        expect(await bench.read(request, "select name from item where id = $1", "q", [1])).toEqual([
          { name: tenant },
        ]);
        const write = { text: "update item set name = $1 where id = 1 returning name", values: [tenant] };
        expect((await bench.withPgClient.singleWrite(request.settings, write)).rows).toEqual([
          { name: tenant },
        ]);
      }
    }
    expect((await pids(4)).size).toBe(2);
    // On either backend, as they alternate.
    const kept = "select count(*)::int as n from pg_prepared_statements";
    const before = [
      await bench.read(bench.request("ada"), kept),
      await bench.read(bench.request("ada"), kept),
    ];
    for (let n = 0; n < 5; n += 1) await bench.read(bench.request("ada"), `select ${n} from item`, `q${n}`);
    for (let n = 0; n < 5; n += 1) await bench.read(bench.request("ada"), `select ${n} from item`, `q${n}`);
    const after = [
      await bench.read(bench.request("ada"), kept),
      await bench.read(bench.request("ada"), kept),
    ];
    expect(new Set(after.map((each) => JSON.stringify(each)))).toEqual(
      new Set(before.map((each) => JSON.stringify(each))),
    );
  });
});
