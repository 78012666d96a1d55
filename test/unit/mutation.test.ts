import { PgInsertSingleStep, PgUpdateSingleStep, TYPES } from "postgraphile/@dataplan/pg";
import { $$toSQL, sql } from "postgraphile/pg-sql2";
import { expect, it, vi } from "vitest";
import { rememberChangeTexts } from "../../workers/graphile/sql-cache/mutation.ts";
import type { Builder, Mutation } from "../../workers/graphile/sql-cache/mutation-step.ts";
import type { Codec, Values } from "../../workers/graphile/sql-cache/select-step.ts";

rememberChangeTexts();

interface Subject {
  readonly sent: Mutation[];
  /** Sends what `apply` sets, for the row that is found by 7, and by 8 where there is another column for it. */
  change(apply: (builder: Builder) => unknown): Promise<unknown>;
}

/** A step that inserts, or updates, a row of a table whose columns all have `codec`; it finds one by `finds`, last first. */
function subject(codec: object, isUpdate = false, table = sql`t`, finds = ["id"]): Subject {
  const sent: Mutation[] = [];
  // As @dataplan/pg does: their places are taken by what the row is found by.
  const getBys = finds.map((name, index) => ({ name, depId: 2 + index, pgCodec: TYPES.int }));
  const symbols = getBys.map(
    ({ name, depId }) => [Symbol(name), { depId, processor: TYPES.int.toPg }] as const,
  );
  const places = symbols.toSorted(([, a], [, b]) => b.depId - a.depId);
  const sqlWhere = sql.join(
    places.map(([symbol]) => Reflect.apply(sql.value, sql, [symbol])),
    " and ",
  );
  const own = {
    name: "t",
    alias: sql.identifier("t"),
    contextId: 0,
    attributes: [],
    applyDepIds: [1],
    ...(isUpdate ? { getBys } : {}),
    resource: {
      codec: { attributes: { a: { codec }, b: { codec } } },
      executeMutation: async (mutation: Mutation) => {
        // As what is sent waits for a connection.
        await Promise.resolve();
        sent.push({ ...mutation, values: [...mutation.values] });
        return { rows: [[]], rowCount: 1, notices: [] };
      },
    },
    finalizeResults: {
      table,
      returning: sql.blank,
      ...(isUpdate ? { sqlWhere, queryValueDetailsBySymbol: new Map(symbols) } : {}),
    },
  };
  const { prototype } = isUpdate ? PgUpdateSingleStep : PgInsertSingleStep;
  const step: object = Object.defineProperties(
    Object.create(prototype),
    Object.getOwnPropertyDescriptors(own),
  );
  const one = (value: unknown): Values => ({ isBatch: false, at: () => value, unaryValue: () => value });
  return {
    sent,
    async change(apply) {
      const values = [one({}), one(apply), one(7), one(8)];
      const indexMap = (callback: (index: number) => unknown): unknown[] => [callback(0)];
      const made: unknown = await Reflect.apply(Object(Reflect.get(step, "execute")), step, [
        { values, indexMap },
      ]);
      return Promise.all(Array.isArray(made) ? made : []);
    },
  };
}

it.each([false, true])(
  "each value is encoded once, even when a text is built (update: %s)",
  async (isUpdate) => {
    const codec: Codec = { ...TYPES.text, toPg: (list) => (Array.isArray(list) ? list.pop() : null) };
    const { sent, change } = subject(codec, isUpdate);
    for (let n = 0; n < 3; n += 1) await change((builder) => builder.set("a", ["second", "first"]));
    expect(sent.map(({ values }) => values[0])).toEqual(["first", "first", "first"]);
  },
);

it.each([false, true])(
  "values set while the statement is in progress are left out (update: %s)",
  async (isUpdate) => {
    const { sent, change } = subject(TYPES.text, isUpdate);
    const late = async (builder: Builder): Promise<void> => {
      builder.set("a", "in time");
      await null;
      builder.set("b", "too late");
    };
    for (let n = 0; n < 3; n += 1) await change(late);
    const expected = isUpdate ? ["in time", "7"] : ["in time"];
    expect(sent.map(({ values }) => values.map(String))).toEqual([expected, expected, expected]);
  },
);

it("no text is kept if a column's type becomes SQL for each request anew", async () => {
  let type = sql`one`;
  const { sent, change } = subject({ ...TYPES.text, sqlType: { [$$toSQL]: () => type } });
  const set = (builder: Builder): void => builder.set("a", "value");
  await change(set);
  await change(set);
  type = sql`another`;
  await change(set);
  expect(sent.map(({ text }) => text.includes("another"))).toEqual([false, false, true]);
});

it("an update that finds its row by columns in an unknown order is left alone", async () => {
  const { sent, change } = subject(TYPES.text, true, sql`t`, ["id", "of"]);
  for (let n = 0; n < 3; n += 1) await change((builder) => builder.set("a", n));
  expect(sent.map(({ values }) => values.map(String))).toEqual([0, 1, 2].map((n) => [String(n), "8", "7"]));
});

it("a statement that cannot be built fails the requests for it, and nothing else", async () => {
  const { sent, change } = subject(TYPES.text, false, sql.placeholder(Symbol("nothing")));
  for (let n = 0; n < 3; n += 1) {
    await expect(change((builder) => builder.set("a", n))).rejects.toThrow("no fallback");
  }
  expect(sent).toEqual([]);
});

it("a text is kept per list of columns set, in order", async () => {
  const { sent, change } = subject(TYPES.text);
  const compile = vi.spyOn(sql, "compile");
  for (let n = 0; n < 3; n += 1) {
    compile.mockClear();
    await change((builder) => builder.set("a", `a ${n}`));
    await change((builder) => {
      builder.set("b", `b ${n}`);
      builder.set("a", null);
    });
  }
  expect(compile.mock.calls.length).toBe(0);
  compile.mockRestore();
  expect(sent.at(-2)?.values).toEqual(["a 2"]);
  expect(sent.at(-1)?.values).toEqual(["b 2", null]);
});
