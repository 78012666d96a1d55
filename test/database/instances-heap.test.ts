import { afterAll, beforeAll, expect, it } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import { collectGarbage } from "../../src/shared/memory/gc.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { Worker } from "../support/worker-instance.ts";
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

it("a released instance gives its heap back, each time", async () => {
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
  // After five more of them: what remains is compiled code and the like.
  expect((released.at(-1) ?? 0) - third).toBeLessThan(held);
});

it("heap that requests add between two builds is not attributed to the second build", async () => {
  const worker = new Worker(database);
  const { growth } = worker.instances;
  const first = await worker.build("pooled", { app: "ada" });
  growth.measure();
  await worker.build("pooled", { app: "ada" });
  const [{ heapBytes: size = 0 } = {}] = growth.measure().measured;
  for (let n = 0; n < 20; n += 1) {
    await worker.ask(first, { tenant: "ada", query: `{ allWide${n}S { nodes { rowId a } } }` });
  }
  const held = Array.from({ length: 16 }, () => new Array<number>(131_072).fill(0));
  // The earlier measurement is out of date, as after a long time.
  await worker.instances.release(2);
  await worker.build("pooled", { app: "ada" });
  const [{ heapBytes = 0 } = {}] = growth.measure().measured;
  expect(held).toHaveLength(16);
  expect(heapBytes).toBeGreaterThan(size / 3);
  expect(heapBytes).toBeLessThan(size * 3);
});

it("instances built in turn, or in place of a released one, are measured by the growth of the heap", async () => {
  const { instances } = new Worker(database);
  const build = (id: number) => instances.build(id, specOf("pooled", { app: "ada" }, id));
  const measure = (): Map<number, number> =>
    new Map(instances.growth.measure().measured.map(({ instance, heapBytes }) => [instance, heapBytes]));
  const sum = (sizes: Map<number, number>): number => [...sizes.values()].reduce((all, one) => all + one, 0);
  // The first builds compile code, which belongs to no single instance.
  for (const id of [1, 2, 3]) await build(id);
  measure();
  const before = collectGarbage();
  await build(4);
  const one = measure();
  expect([...one.keys()]).toEqual([4]);
  await build(5);
  const { usedBytes } = await build(6);
  // The used heap includes garbage, so it is no less than the live heap.
  expect(usedBytes).toBeGreaterThan(collectGarbage());
  const two = measure();
  expect([...two.keys()]).toEqual([5, 6]);
  const grown = collectGarbage() - before;
  const said = sum(one) + sum(two);
  expect(said).toBeGreaterThan(grown / 2);
  expect(said).toBeLessThan(grown * 2);
  expect(measure()).toEqual(new Map());
  await instances.release(6);
  await build(7);
  expect(measure().get(7)).toBeGreaterThan(grown / 6);
});
