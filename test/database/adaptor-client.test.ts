import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";

const state = "select current_user as role, current_setting('search_path') as path";
const ofA = { role: "ada", path: "ada, pg_temp" };
const ofB = { role: "bob", path: "bob, pg_temp" };

let database: TestDatabase;
let bench: AdaptorBench;
let request: Request;
beforeAll(async () => {
  database = await adaptorDatabase("adaptor_client", ["ada", "bob"]);
  bench = adaptorOn(database);
});
beforeEach(() => {
  request = bench.request("ada");
});
afterEach(async () => {
  expect(await bench.read(bench.request("bob"), state)).toEqual([ofB]);
  expect(bench.sessions.stats).toMatchObject({ total: 1, waiting: 0 });
  await database.query("delete from ada.item where id > 1");
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

const insert = (id: number) => ({ text: "insert into item values ($1, 'x')", values: [id] });
const ids = async (): Promise<number[]> =>
  (await database.query<{ id: number }>("select id from ada.item order by id")).map((row) => row.id);
const inside = <T>(work: (client: NodePostgresPgClient) => T | Promise<T>): Promise<T> =>
  bench.withPgClient(request.settings, work);

describe("rawClient", () => {
  it("answers queries as pg does, inside the transaction", async () => {
    const [plain, arrays, values] = await inside(async ({ rawClient }) => [
      await rawClient.query(state),
      await rawClient.query({ text: "select 1, 2", rowMode: "array" }),
      await rawClient.query("select $1::int as n", [3]),
    ]);
    expect([plain?.rows, arrays?.rows, values?.rows]).toEqual([[ofA], [[1, 2]], [{ n: 3 }]]);
  });

  it("gives no way around it", async () => {
    for (const name of ["release", "end", "connection", "connect", "_queryQueue", "on"] as const) {
      await expect(inside(({ rawClient }) => Reflect.get(rawClient, name))).rejects.toThrow(/not available/);
    }
    await expect(inside(({ rawClient }) => Reflect.set(rawClient, "query", 1))).rejects.toThrow(
      /not available/,
    );
    await expect(
      inside(async ({ rawClient }) => rawClient.query("select 1", () => undefined)),
    ).rejects.toThrow(/callback/);
  });
});

describe("withTransaction", () => {
  it("undoes what failed inside it, and keeps the rest", async () => {
    await inside(async (client) => {
      await client.query(insert(2));
      await client
        .withTransaction(async (inner) => {
          await inner.query(insert(3));
          await inner.withTransaction((innermost) => innermost.query(insert(4)));
          await inner.query({ text: "select 1/0" });
        })
        .catch(() => undefined);
      await client.withTransaction((inner) => inner.query(insert(5)));
    });
    expect(await ids()).toEqual([1, 2, 5]);
  });

  it("takes turns with others, and with statements beside it", async () => {
    const order: string[] = [];
    await inside(async (client) => {
      const one = (name: string, id: number) =>
        client.withTransaction(async (inner) => {
          order.push(`${name} begins`);
          await inner.query(insert(id));
          await inner.query({ text: "select pg_sleep(0.01)" });
          order.push(`${name} ends`);
        });
      await Promise.all([
        one("a", 2),
        one("b", 3),
        client.query({ text: state }).then(() => order.push("query")),
      ]);
    });
    expect(order).toEqual(["a begins", "a ends", "b begins", "b ends", "query"]);
    expect(await ids()).toEqual([1, 2, 3]);
  });

  it("that nobody waited for loses what it had not done", async () => {
    await inside((client) => {
      void client.withTransaction(async (inner) => {
        await inner.query(insert(2));
        await inner.query(insert(3));
      });
    }).catch(() => undefined);
    expect(await ids()).not.toContain(3);
  });
});
