import { makeSchema, QueryPlugin, QueryQueryPlugin } from "postgraphile/graphile-build";
import { expect, it } from "vitest";
import { behaviorMatchesPlugin, rememberMatches } from "../../workers/graphile/behavior-cache.ts";
import { Patching } from "../../workers/graphile/patching.ts";
import { patchStates } from "../support/patches.ts";

/** As much of graphile-build's class as is asked; `asked` are the questions that came to it. */
class Behavior {
  readonly asked: string[] = [];
  readonly #answers: Readonly<Record<string, boolean | undefined>>;
  constructor(answers: Readonly<Record<string, boolean | undefined>>) {
    this.#answers = answers;
    Object.freeze(this);
  }
  getBehaviorForEntity(_type: string, entity: string) {
    return { behaviorString: entity };
  }
  entityMatches(type: string, entity: string, filter: string): boolean | undefined {
    const question = `${type} ${entity} ${filter}`;
    this.asked.push(question);
    return this.#answers[question];
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the fake stands for a class of the library
const remember = (behavior: Behavior): boolean => rememberMatches(behavior as any);

it("each type, filter and behavior is computed once, and every answer is repeated, undefined included", () => {
  const behavior = new Behavior({ "a +x f": true, "a -x f": false, "b +x f": false });
  remember(behavior);
  for (let n = 0; n < 3; n += 1) {
    expect(behavior.entityMatches("a", "+x", "f")).toBe(true);
    expect(behavior.entityMatches("a", "-x", "f")).toBe(false);
    expect(behavior.entityMatches("b", "+x", "f")).toBe(false);
    expect(behavior.entityMatches("a", "+x", "g")).toBe(undefined);
  }
  expect(behavior.asked).toEqual(["a +x f", "a -x f", "b +x f", "a +x g"]);
});

it("one build's answers are not another's, and a build without a cache computes each time", () => {
  const one = new Behavior({ "a +x f": true });
  const two = new Behavior({ "a +x f": false });
  const none = new Behavior({ "a +x f": undefined });
  remember(one);
  remember(two);
  for (const [behavior, answer] of [
    [one, true],
    [two, false],
    [none, undefined],
    [one, true],
    [none, undefined],
  ] as const) {
    expect(behavior.entityMatches("a", "+x", "f")).toBe(answer);
  }
  expect([one.asked.length, two.asked.length, none.asked.length]).toEqual([1, 1, 2]);
});

/** What graphile-build itself answers where the first question about a type is about a behavior that nobody registered. */
async function firstAnswer(
  remembering: boolean,
): Promise<{ readonly matches: unknown; readonly text: string; readonly method: string }> {
  let answered = { matches: undefined as unknown, text: "", method: "" };
  const asking: GraphileConfig.Plugin = {
    name: "AskingPlugin",
    version: "1.0.0",
    after: ["RowhouseBehaviorMatchesPlugin"],
    schema: {
      hooks: {
        init(value, build) {
          const { behavior } = build;
          // biome-ignore lint/suspicious/noExplicitAny: a type of entity that the library's declarations do not know
          const [type, filter]: any[] = ["widget", "unheard:of"];
          const matches = behavior.entityMatches(type, {}, filter);
          const text = behavior.getBehaviorForEntity(type, {}).behaviorString;
          answered = { matches, text, method: String(behavior.entityMatches) };
          return value;
        },
      },
    },
  };
  Object.assign(asking.schema ?? {}, {
    entityBehavior: { widget: { inferred: (behavior: string) => `${behavior} unheard:of` } },
  });
  const plugins = [
    QueryPlugin,
    QueryQueryPlugin,
    ...(remembering ? [behaviorMatchesPlugin(new Patching(patchStates()))] : []),
    asking,
  ];
  await makeSchema({ plugins });
  return answered;
}

it("a type whose first query is for an unregistered behavior has that behavior, as without the cache", async () => {
  const without = await firstAnswer(false);
  expect(without).toMatchObject({ matches: true, text: expect.stringContaining("unheard:of") });
  const { matches, text, method } = await firstAnswer(true);
  expect(method).not.toBe(without.method);
  expect({ matches, text }).toEqual({ matches: without.matches, text: without.text });
});
