import { GrafservBase } from "postgraphile/grafserv";
import { GraphQLObjectType, GraphQLSchema, GraphQLString } from "postgraphile/graphql";
import { describe, expect, it } from "vitest";
import { lightenMiddleware } from "../../workers/graphile/middleware.ts";

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: "Query", fields: { one: { type: GraphQLString } } }),
});

type Step = (next: Next, event: { readonly said: string[] }) => unknown;
type Next = (() => unknown) & { callback(done: (error: unknown, result?: unknown) => unknown): unknown };

/** What `steps` around an activity come to, and what all of them said. */
async function outcome(light: boolean, steps: readonly Step[], activity: () => unknown): Promise<unknown> {
  const plugins = steps.map((step, index) => ({
    name: `P${index}`,
    grafast: { middleware: { prepareArgs: step } },
  }));
  const preset = {};
  Object.assign(preset, { plugins });
  const serv = new GrafservBase({ schema, preset });
  await serv.ready();
  if (light) lightenMiddleware(serv);
  const said: string[] = [];
  const { grafastMiddleware } = serv;
  const run: unknown = Reflect.get(grafastMiddleware ?? {}, "run");
  if (typeof run !== "function") throw new Error("there is no middleware");
  try {
    const result: unknown = await run.call(grafastMiddleware, "prepareArgs", { said }, () => {
      said.push("activity");
      return activity();
    });
    return { said, result };
  } catch (error) {
    return { said, error: String(error) };
  }
}

const around =
  (name: string): Step =>
  async (next, { said }) => {
    said.push(`before ${name}`);
    const result = await next();
    said.push(`behind ${name}`);
    return `${name}(${result})`;
  };

const byCallback: Step = (next, { said }) =>
  next.callback((error, result) => {
    said.push(error === null || error === undefined ? "callback" : "callback with an error");
    if (error) throw error;
    return `called back: ${result}`;
  });

const twice: Step = (next) => {
  next.callback((_, result) => result);
  return next.callback((_, result) => result);
};

const failing = (): never => {
  throw new Error("no");
};

describe("light middleware", () => {
  const cases: readonly [string, readonly Step[], () => unknown][] = [
    ["runs what is around in its order", [around("a"), around("b"), around("c")], () => "done"],
    ["hands a result to a callback", [around("a"), byCallback], () => "done"],
    ["hands a promise's result to a callback", [byCallback, around("a")], async () => "done"],
    ["hands an error to a callback", [byCallback], failing],
    ["hands a rejection to a callback", [byCallback], async () => failing()],
    ["throws what the activity throws", [around("a")], failing],
    ["calls back once", [twice], () => "done"],
    ["may leave the activity out", [() => "instead", around("b")], () => "done"],
  ];
  it.each(cases)("%s, as the original does", async (_, steps, activity) => {
    const original = await outcome(false, steps, activity);
    expect(await outcome(true, steps, activity)).toEqual(original);
  });
});
