/** A preset for failure tests: fields that exhaust memory or bypass the adaptor, and builds that wait. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process, { env } from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { context, lambda } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";

interface Client {
  query(query: { text: string }): Promise<{ rows: Record<string, unknown>[] }>;
}

interface RequestContext {
  pgSettings: object;
  withPgClient<Value>(settings: object | null, callback: (client: Client) => Promise<Value>): Promise<Value>;
}

/** Keeps allocations alive until the cell ends. */
const held: unknown[] = [];

/** Allocates megabytes of small arrays, on the heap's ordinary pages. */
function heapOf(mb: number): unknown[] {
  return Array.from({ length: mb * 131 }, () => new Array(1_000).fill(1.5));
}

/** Allocates without end in one synchronous call, so that nothing else in its thread runs any more. */
const endless: Record<string, (request: RequestContext) => Promise<unknown>> = {
  async map() {
    const map = new Map<number, object>();
    held.push(map);
    for (let key = 0; ; key += 1) map.set(key, { key });
  },
  async array() {
    const list: object[] = [];
    held.push(list);
    for (;;) list.push({ length: list.length });
  },
  /** Ends the thread at once. */
  async exit() {
    process.exit(3);
  },
  async result({ withPgClient, pgSettings }) {
    const text = "select n, repeat('x', 1000) || n as filling from generate_series(1, 2000000) n";
    return withPgClient(pgSettings, async (client) => (await client.query({ text })).rows.length);
  },
};

const fields = extendSchema({
  typeDefs: /* GraphQL */ `
    extend type Query {
      "Asks as nobody, for what only somebody may see."
      asNobody(table: String!): [String!]
      "Asks as the request does, with a copy of its settings."
      asRequest: String
      "Never ends."
      endless(kind: String!): Int
      "Keeps so much of the heap for good."
      hold(mb: Int!): Int
    }
  `,
  objects: {
    Query: {
      plans: {
        asNobody: (_parent, fieldArgs) =>
          lambda([context(), fieldArgs.getRaw("table")], async ([request, table]) =>
            (request as unknown as RequestContext).withPgClient(null, async (client) => {
              const { rows } = await client.query({ text: `select label from ${String(table)}` });
              return rows.map((row) => String(row["label"]));
            }),
          ),
        asRequest: () =>
          lambda(context(), async (value) => {
            const { withPgClient, pgSettings } = value as unknown as RequestContext;
            return withPgClient({ ...pgSettings }, async (client) => {
              const { rows } = await client.query({ text: "select label from item order by id limit 1" });
              return String(rows[0]?.["label"]);
            });
          }),
        endless: (_parent, fieldArgs) =>
          lambda([context(), fieldArgs.getRaw("kind")], async ([request, kind]) =>
            endless[String(kind)]?.(request as unknown as RequestContext),
          ),
        hold: (_parent, fieldArgs) =>
          lambda(fieldArgs.getRaw("mb"), (mb) => {
            held.push(heapOf(Number(mb)));
            return held.length;
          }),
      },
    },
  },
});

/** Reports by the file `NAME.waiting` in the test's directory, then waits until the test creates `NAME.open` there. */
async function passGate(name: string): Promise<void> {
  const directory = env["TEST_GATES"] ?? "";
  writeFileSync(join(directory, `${name}.waiting`), "");
  while (!existsSync(join(directory, `${name}.open`))) await sleep(10);
}

/** `gate` and `ballast` (MB that the instance holds) are settings of a test's tenants. */
export default async function preset({
  settings,
}: {
  settings: Readonly<Record<string, string>>;
}): Promise<GraphileConfig.Preset> {
  const { gate, ballast } = settings;
  if (gate !== undefined) await passGate(gate);
  const weight = heapOf(Number(ballast ?? 0));
  return {
    extends: [PostGraphileAmberPreset],
    plugins: [
      fields,
      {
        name: "BallastPlugin",
        version: "1.0.0",
        // The built schema keeps its hooks' results, and with them the ballast.
        schema: { hooks: { finalize: (schema) => Object.assign(schema, { weight }) } },
      },
    ],
  };
}
