import { describe, expect, it } from "vitest";
import { insert, ofAda, oneConnection, state } from "../support/one-connection.ts";

const one = oneConnection("adaptor_client");

describe("rawClient", () => {
  it("answers queries as pg does, inside the transaction", async () => {
    const [plain, arrays, values] = await one.inside(async ({ rawClient }) => [
      await rawClient.query(state),
      await rawClient.query({ text: "select 1, 2", rowMode: "array" }),
      await rawClient.query("select $1::int as n", [3]),
    ]);
    expect([plain?.rows, arrays?.rows, values?.rows]).toEqual([[ofAda], [[1, 2]], [{ n: 3 }]]);
  });

  it("gives no access to the underlying client", async () => {
    for (const name of ["release", "end", "connection", "connect", "_queryQueue", "on"] as const) {
      await expect(one.inside(({ rawClient }) => Reflect.get(rawClient, name))).rejects.toThrow(
        /not available/,
      );
    }
    await expect(one.inside(({ rawClient }) => Reflect.set(rawClient, "query", 1))).rejects.toThrow(
      /not available/,
    );
    await expect(
      one.inside(async ({ rawClient }) => rawClient.query("select 1", () => undefined)),
    ).rejects.toThrow(/callback/);
  });
});

describe("withTransaction", () => {
  it("rolls back only what failed inside it, and keeps the rest", async () => {
    await one.inside(async (client) => {
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
    expect(await one.ids()).toEqual([1, 2, 5]);
  });

  it("runs one at a time with other transactions and statements of the same client", async () => {
    const order: string[] = [];
    await one.inside(async (client) => {
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
    expect(await one.ids()).toEqual([1, 2, 3]);
  });

  it("that nobody awaits loses the statements that it had not sent", async () => {
    await one
      .inside((client) => {
        void client.withTransaction(async (inner) => {
          await inner.query(insert(2));
          await inner.query(insert(3));
        });
      })
      .catch(() => undefined);
    expect(await one.ids()).not.toContain(3);
  });
});
