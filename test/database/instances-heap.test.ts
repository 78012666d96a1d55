import { afterAll, beforeAll, expect, it } from "vitest";
import { collectGarbage } from "../../src/kernel/garbage.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { specOf, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("instances_heap");
  await database.execute(workerTenantSql("ada"));
  for (let n = 0; n < 20; n += 1) {
    await database.execute(`create table ada.wide${n} (id int primary key, a text, b int references ada.person);
      create index on ada.wide${n} (b); grant select on ada.wide${n} to ada`);
  }
});
afterAll(() => database.drop());

it("an instance that is released gives its heap back, however often", async () => {
  const worker = new Worker(database);
  let id = 0;
  const round = async (): Promise<number> => {
    id += 1;
    const serv = await worker.build("pooled", { app: "ada" });
    for (let n = 0; n < 5; n += 1) {
      const { json } = await worker.ask(serv, {
        tenant: "ada",
        query: `{ allWide${n}S { nodes { rowId a } } whoami }`,
      });
      expect(json.errors).toBeUndefined();
    }
    return collectGarbage();
  };
  const live: number[] = [];
  const released: number[] = [];
  for (let n = 0; n < 8; n += 1) {
    live.push(await round());
    await worker.instances.release(id);
    released.push(collectGarbage());
  }
  const [, , third = 0] = released;
  const held = (live[2] ?? 0) - third;
  expect(held).toBeGreaterThan(2_000_000);
  // Five more of them; what stays is compiled code and the like.
  expect((released.at(-1) ?? 0) - third).toBeLessThan(held);
});

it("instances built one after another, and in the place of a released one, are said to take what the heap grew by", async () => {
  const { instances } = new Worker(database);
  const build = async (id: number): Promise<number> =>
    (await instances.build(id, specOf("pooled", { app: "ada" }, id))).heapBytes;
  // The first ones have code compiled, which is no instance's alone.
  for (const id of [1, 2, 3]) await build(id);
  const before = collectGarbage();
  const said = (await build(4)) + (await build(5)) + (await build(6));
  const grown = collectGarbage() - before;
  expect(said).toBeGreaterThan(grown / 2);
  expect(said).toBeLessThan(grown * 2);
  await instances.release(6);
  expect(await build(7)).toBeGreaterThan(grown / 6);
});
