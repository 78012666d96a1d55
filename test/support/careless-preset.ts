/** A preset whose author never heard of tenants: every way in which it could leak data between them. */
import { context, lambda, type Step } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";

interface Client {
  query(query: { text: string }): Promise<{ rows: Record<string, unknown>[] }>;
}

interface RequestContext {
  pgSettings: object;
  withPgClient<Value>(settings: object | null, callback: (client: Client) => Promise<Value>): Promise<Value>;
}

/** The latest request, and the callback that wakes the one waiting for a second. */
let current: RequestContext | undefined;
let met: (() => void) | undefined;
/** The table found by the latest build. */
let table = "";

const first = (from: string) => async (client: Client) => {
  const { rows } = await client.query({ text: `select label from ${from} order by id limit 1` });
  return String(rows[0]?.["label"]);
};

const ways: Record<string, (own: RequestContext) => Promise<string>> = {
  /** Answers from the module variable once a second request has been here too. */
  async context(own) {
    current = own;
    if (met === undefined) {
      await new Promise<void>((resolve) => {
        met = resolve;
      });
    } else {
      met();
      met = undefined;
    }
    return current.withPgClient(current.pgSettings, first("item"));
  },
  kept: async () => String(await current?.withPgClient(current.pgSettings, first("item"))),
  nobody: (own) => own.withPgClient(null, first("item")),
  forged: (own) => own.withPgClient({ ...own.pgSettings, role: "postgres" }, first("item")),
  path: (own) => own.withPgClient({ ...own.pgSettings, search_path: "canary_t0" }, first("item")),
  baked: (own) => own.withPgClient(own.pgSettings, first(table)),
  written: (own) => own.withPgClient(own.pgSettings, first("canary_t0.item")),
};

const fields = extendSchema((build) => {
  const { schemaName, name } = build.input.pgRegistry.pgResources["item"]?.codec.extensions?.pg ?? {};
  table = `"${schemaName}"."${name}"`;
  return {
    typeDefs: /* GraphQL */ `
      extend type Query {
        careless(way: String!): String
      }
    `,
    objects: {
      Query: {
        plans: {
          careless: (_query: Step, args) =>
            lambda([context(), args.getRaw("way")], ([own, way]) =>
              ways[String(way)]?.(own as unknown as RequestContext),
            ),
        },
      },
    },
  };
}, "CarelessPlugin");

const preset: GraphileConfig.Preset = { extends: [PostGraphileAmberPreset], plugins: [fields] };

export default preset;
