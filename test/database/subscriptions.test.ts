import { printSchema } from "postgraphile/graphql";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { presetUrl, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("subscriptions");
  await database.execute(workerTenantSql("nora"));
});
afterAll(() => database.drop());

const from = (name: string): string => JSON.stringify(import.meta.resolve(name));
const subscribing = presetUrl(`
  import { PostGraphileAmberPreset } from ${from("postgraphile/presets/amber")};
  import { extendSchema, gql } from ${from("postgraphile/utils")};
  import { context, listen } from ${from("postgraphile/grafast")};
  export default {
    extends: [PostGraphileAmberPreset],
    grafserv: { websockets: true },
    plugins: [extendSchema({
      typeDefs: gql\`extend type Subscription { heard(topic: String!): Heard } type Heard { event: String }\`,
      objects: {
        Subscription: { plans: { heard: { subscribePlan: (_, { $topic }) => listen(context().get("pgSubscriber"), $topic, (event) => event), plan: (event) => event } } },
      },
    })],
  };`);

it("a schema leaves out subscriptions, which the host cannot serve, with one warning, and refuses them clearly", async () => {
  const worker = new Worker(database, { preset: subscribing });
  const serv = await worker.build("pooled", { app: "nora" });
  const schema = await serv.getSchema();
  expect(schema.getSubscriptionType() ?? null).toBeNull();
  expect(printSchema(schema)).not.toMatch(/Subscription|heard/);
  expect(worker.log.filter((line) => line.includes("Subscription"))).toEqual([
    "warn the schema leaves out Subscription (heard): subscriptions are not served without realtime",
  ]);
  const { json } = await worker.ask(serv, {
    tenant: "nora",
    query: 'subscription { heard(topic: "a") { event } }',
  });
  expect(json).not.toHaveProperty("data");
  expect(json.errors[0].message).toBe("The schema has no subscriptions.");
  expect(
    (await worker.ask(serv, { tenant: "nora", query: "{ allPeople { totalCount } }" })).json.data,
  ).toEqual({
    allPeople: { totalCount: 5 },
  });
});
