/** Presets by `api` that do as they like with what smart tags leave out of the API. */
import { context, lambda } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { makeV4Preset } from "postgraphile/presets/v4";
import { extendSchema } from "postgraphile/utils";
import { instanceOf } from "../../workers/plugin-api/instance.ts";
import { requestOf } from "../../workers/plugin-api/request.ts";

/** Whatever its tags say, `version()` is a query. */
const restoring: GraphileConfig.Plugin = {
  name: "RestoringPlugin",
  version: "1.0.0",
  schema: {
    entityBehavior: {
      pgResource: {
        override: {
          provides: ["restored"],
          after: ["override"],
          callback: (behavior, resource) =>
            resource.extensions?.pg?.name === "version"
              ? [behavior, "queryField", "queryField:single"]
              : behavior,
        },
      },
    },
  },
};

/** Fields that call `app.version()` in ways that no build can see. */
const calling = extendSchema((build) => {
  const name = instanceOf(build).identifier("app", "version");
  const resource = Object.values(build.input.pgRegistry.pgResources).find(
    ({ extensions }) => extensions?.pg?.name === "version",
  );
  const telling = (sql: string) => () =>
    lambda(context(), async (given) => (await requestOf(given).query(sql))[0]?.["said"]);
  return {
    typeDefs: /* GraphQL */ `
      extend type Query {
        byHand: String
        byKit: String
        byResource: String
      }
    `,
    objects: {
      Query: {
        plans: {
          byHand: telling("select app.version() as said"),
          byKit: telling(`select ${name}() as said`),
          byResource: () => resource?.execute(),
        },
      },
    },
  };
});

const presets: Readonly<Record<string, GraphileConfig.Preset>> = {
  v4: { extends: [makeV4Preset()] },
  restoring: { extends: [PostGraphileAmberPreset], plugins: [restoring] },
  calling: { extends: [PostGraphileAmberPreset], plugins: [calling] },
};

export default function preset({ api }: { api: string | null }): GraphileConfig.Preset {
  return presets[api ?? ""] ?? PostGraphileAmberPreset;
}
