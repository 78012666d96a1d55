/** A preset with `Subscription` fields as PostGraphile's documentation has them, beside the fields for failure tests. */
import { exit } from "node:process";
import type {} from "postgraphile";
import { context, lambda, listen, type Step } from "postgraphile/grafast";
import { extendSchema } from "postgraphile/utils";
import { requestOf } from "../../workers/plugin-api/request.ts";
import hostPreset from "./host-preset.ts";

const subscriber = (): Step => context().get("pgSubscriber" as never);

async function* forEver(): AsyncGenerator<string> {
  yield "once";
  await new Promise(() => {});
}

function itemBy({ pgResources }: GraphileBuild.Build, $id: Step): Step {
  const { item } = pgResources;
  if (item === undefined) throw new Error("there is no table item");
  return item.get({ id: $id as never });
}

/** The plans of a field whose topic is the `channel` that SQL selects. */
const selected = (text: string) => ({
  subscribePlan: () =>
    listen(
      subscriber() as never,
      lambda(context(), async (given) => {
        const [row] = await requestOf(given).query(text);
        return String(row?.["channel"]);
      }) as never,
    ),
  plan: ($event: Step) => $event,
});

const fields = extendSchema((build) => ({
  typeDefs: /* GraphQL */ `
    type Heard {
      payload: String
      "The item whose key the payload is."
      item: Item
      "The role, after a while."
      role(after: Float): String
      "The text that SQL of the subscriber selects, with the payload as its parameter."
      asked(sql: String!): String
      "A text of that many characters."
      long(length: Int!): String
    }
    extend type Query {
      "Ends the thread."
      exit: Int
    }
    extend type Subscription {
      heard(topic: String!): Heard
      "Begins with an event of its own."
      greeted(topic: String!): Heard
      "Of the channel that the database names for the role."
      channel: Heard
      "Of the channel that item 1 names."
      named: Heard
      "Listens to nothing, and does not end."
      forEver: Heard
      "Fails for an event that says so."
      failing(topic: String!): Heard
    }
  `,
  objects: {
    Query: { plans: { exit: () => lambda(context(), () => exit(1)) } },
    Subscription: {
      plans: {
        heard: {
          subscribePlan: (_, { $topic }) => listen(subscriber() as never, $topic as never),
          plan: ($event) => $event,
        },
        greeted: {
          subscribePlan: (_, { $topic }) =>
            listen(
              subscriber() as never,
              $topic as never,
              undefined,
              lambda($topic, () => "hello"),
            ),
          plan: ($event) => $event,
        },
        channel: selected("select 'of ' || current_user as channel"),
        named: selected("select label::text as channel from item where id = 1"),
        forEver: { subscribePlan: () => lambda(context(), forEver) as never, plan: ($event) => $event },
        failing: {
          subscribePlan: (_, { $topic }) => listen(subscriber() as never, $topic as never),
          plan: ($event) =>
            lambda($event, (event) => {
              if (event === "fail") throw new Error("failed as asked");
              return event;
            }),
        },
      },
    },
    Heard: {
      plans: {
        payload: ($event) => $event,
        item: ($event) => itemBy(build, lambda($event, Number)),
        role: (_, args) =>
          lambda([context(), args.getRaw("after")], async ([given, after]) => {
            const [row] = await requestOf(given).query("select current_user as role, pg_sleep($1)", [
              Number(after ?? 0),
            ]);
            return String(row?.["role"]);
          }),
        asked: ($event, args) =>
          lambda([context(), $event, args.getRaw("sql")], async ([given, event, text]) => {
            const [row] = await requestOf(given).query(String(text), [event]);
            return row === undefined ? null : String(Object.values(row)[0]);
          }),
        long: (_, args) => lambda(args.getRaw("length"), (length) => "x".repeat(Number(length))),
      },
    },
  },
}));

export default async function preset(
  facts: Parameters<typeof hostPreset>[0],
): Promise<GraphileConfig.Preset> {
  return { extends: [await hostPreset(facts)], plugins: [fields] };
}
