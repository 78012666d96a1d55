import { PgExecutor } from "postgraphile/@dataplan/pg";
import { context } from "postgraphile/grafast";
import { expect, it } from "vitest";
import { readAlone } from "../../workers/graphile/executor.ts";
import type { Common, Spec } from "../../workers/graphile/sql-cache/select-step.ts";

type Sent = readonly [text: string, values: readonly unknown[], name: string | undefined];
type Execute = (specs: readonly Spec[], common: Common) => Promise<{ readonly values: readonly unknown[] }>;

interface Subject {
  readonly sent: Sent[];
  readonly withCache: Execute;
  readonly withoutCache: Execute;
  mutate(context: object): Promise<unknown>;
}

/** What PostgreSQL would answer: the parameters, in a row for each thing that is asked for. */
function rowsFor([text, values]: Sent): unknown[] {
  if (text === "fails") throw new Error("division by zero");
  if (text === "nothing") return [];
  const asked: unknown = text.startsWith("many") ? JSON.parse(String(values.at(-1))) : [0];
  return Array.isArray(asked)
    ? asked.flatMap((one: unknown, index) => [
        [text, JSON.stringify(one), String(index)],
        [text, "second", String(index)],
      ])
    : [];
}

function subject(alone: boolean): Subject {
  const executor = new PgExecutor({ name: "main", context });
  const sent: Sent[] = [];
  Object.assign(executor, {
    async _execute(_context: object, ...[text, values, name]: Sent) {
      sent.push([text, values, name]);
      return { rows: rowsFor([text, values, name]) };
    },
    async _executeWithClient() {
      return { rows: [] };
    },
  });
  if (alone) readAlone(executor);
  const method =
    (name: string): Execute =>
    (...args) =>
      Reflect.apply(Object(Reflect.get(executor, name)), executor, args);
  return {
    sent,
    withCache: method("executeWithCache"),
    withoutCache: method("executeWithoutCache"),
    mutate: (own) =>
      Reflect.apply(Object(Reflect.get(executor, "executeMutation")), executor, [{ context: own, text: "" }]),
  };
}

const common = (text: string, identifierIndex: number | null = null, values: unknown[] = [1]): Common => ({
  text,
  rawSqlValues: values,
  identifierIndex,
  name: `name of ${text}`,
  eventEmitter: undefined,
});

/** Whatever is asked in a request, in this order and at once, with what is sent for it. */
async function answers({ sent, withCache, withoutCache, mutate }: Subject): Promise<unknown> {
  const requests = [1, 2].map((number) => ({
    number,
    pgSettings: {},
    withPgClient: async (_settings: object, callback: (client: object) => unknown) => callback({}),
  }));
  const found: unknown[] = [];
  for (const own of requests) {
    const one = (...queryValues: unknown[]): Spec => ({ context: own, queryValues });
    const asked = [
      withCache([one()], common("plain")),
      withCache([one()], common("plain")),
      withCache([one()], common("plain", null, [2])),
      withCache([one("a")], common("many", 2)),
      withCache([one("a"), one("b")], common("many", 2)),
      withCache([one("b")], common("many", 2)),
      withCache([one("c", null)], common("many more", 2, [])),
      withCache([], common("plain")),
      withCache([one()], common("nothing")),
      withCache([one()], common("fails")),
      withCache([one()], common("fails")),
      withoutCache([one()], common("plain")),
      withoutCache([one()], common("plain")),
      withoutCache([one("a")], common("many", 2)),
      withoutCache([one("a"), one("b")], common("many", 2)),
      withoutCache([one()], common("fails")),
    ];
    found.push(await Promise.allSettled(asked));
    found.push(
      await Promise.allSettled([withCache([one()], common("plain")), withCache([one()], common("fails"))]),
    );
    await mutate(own);
    found.push(await withCache([one()], common("plain")), await withCache([one()], common("plain")));
  }
  return { found, sent };
}

it("reads return and send the same with the fast path as without", async () => {
  const alone = subject(true);
  const expected = await answers(subject(false));
  expect(await answers(alone)).toEqual(expected);
  // Of all that is the same in one request, one is sent; of two requests both are; after a change it is sent again.
  expect(alone.sent.filter(([text, [value]]) => text === "plain" && value === 1).length).toBe(
    2 * (1 + 2 + 1),
  );
});

it("a read through the fast path is not read by the original", async () => {
  const executor = new PgExecutor({ name: "main", context });
  const asked: string[] = [];
  Object.assign(executor, {
    async _execute() {
      return { rows: [["row"]] };
    },
    _executeWithOrWithoutCache() {
      asked.push("original");
      return Promise.resolve({ values: [] });
    },
  });
  readAlone(executor);
  const own = {};
  const spec = { context: own, queryValues: [] };
  const ask = (specs: readonly Spec[], more: Partial<Common> = {}): unknown =>
    Reflect.apply(Object(Reflect.get(executor, "executeWithCache")), executor, [
      specs,
      { ...common("plain"), ...more },
    ]);
  expect(await ask([spec])).toEqual({ values: [[["row"]]] });
  expect(asked).toEqual([]);
  await ask([spec, spec]);
  await ask([spec], { useTransaction: true });
  await ask([spec], { eventEmitter: {} });
  expect(asked).toEqual(["original", "original", "original"]);
});

it("a plugin that replaces how an executor reads, before or after, is still called", async () => {
  const names = ["executeWithCache", "executeWithoutCache"] as const;
  class Own extends PgExecutor {
    override async executeWithCache(): Promise<never> {
      throw new Error("by a class");
    }
  }
  const plain = (): PgExecutor => new PgExecutor({ name: "main", context });
  const replaced = (executor: object, message: string): void => {
    for (const name of names) Object.assign(executor, { [name]: () => Promise.reject(new Error(message)) });
  };
  const [before, after, own] = [plain(), plain(), new Own({ name: "main", context })];
  replaced(before, "before");
  for (const executor of [before, after, own]) readAlone(executor);
  replaced(after, "after");
  const ask = async (executor: PgExecutor, name: (typeof names)[number]): Promise<unknown> =>
    Reflect.apply(executor[name], executor, [[{ context: {}, queryValues: [] }], common("plain")]);
  for (const name of names) {
    await expect(ask(before, name)).rejects.toThrow("before");
    await expect(ask(after, name)).rejects.toThrow("after");
  }
  await expect(ask(own, "executeWithCache")).rejects.toThrow("by a class");
});
