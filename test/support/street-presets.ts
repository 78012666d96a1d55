/** Presets like those in use, and a record of each while a schema is built with it: for stock PostGraphile and for hosts alike. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { env } from "node:process";
import { PgAggregatesPreset } from "@graphile/pg-aggregates";
import { PgSimplifyInflectionPreset } from "@graphile/simplify-inflection";
import { PgManyToManyPreset } from "@graphile-contrib/pg-many-to-many";
import { PgOrderByRelatedPlugin } from "@graphile-contrib/pg-order-by-related";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { PostGraphileRelayPreset } from "postgraphile/presets/relay";
import { makeV4Preset } from "postgraphile/presets/v4";
import { PostGraphileConnectionFilterPreset } from "postgraphile-plugin-connection-filter";

/** The order of plugins and of their statements about behaviors, and the resulting behaviors. */
export interface Orders {
  readonly plugins: readonly string[];
  readonly behaviors: readonly string[];
}

const addOns = [
  PostGraphileConnectionFilterPreset,
  PgAggregatesPreset,
  PgSimplifyInflectionPreset,
  PgManyToManyPreset,
  { plugins: [PgOrderByRelatedPlugin] },
];

/** Uses the schema name that its author knows. */
const prefixes: GraphileConfig.Plugin = {
  name: "PrefixesPlugin",
  version: "1.0.0",
  inflection: {
    replace: {
      _schemaPrefix: (previous, _options, details) =>
        details.pgNamespace.nspname === "side" ? "beside_" : `the_${previous?.(details)}`,
    },
  },
};

export const streetPresets: Readonly<Record<string, readonly GraphileConfig.Preset[]>> = {
  amber: [PostGraphileAmberPreset],
  v4: [makeV4Preset()],
  relay: [PostGraphileAmberPreset, PostGraphileRelayPreset],
  filter: [PostGraphileAmberPreset, PostGraphileConnectionFilterPreset],
  aggregates: [PostGraphileAmberPreset, PgAggregatesPreset],
  simplify: [PostGraphileAmberPreset, PgSimplifyInflectionPreset],
  many: [PostGraphileAmberPreset, PgManyToManyPreset, { plugins: [PgOrderByRelatedPlugin] }],
  prefixed: [PostGraphileAmberPreset, { plugins: [prefixes] }],
  all: [makeV4Preset(), PostGraphileRelayPreset, ...addOns],
};

function behaviorsOf({ behavior, input }: GraphileBuild.Build): string[] {
  const kinds: unknown = Reflect.get(behavior, "behaviorEntities");
  const callbacks = Object.entries(kinds ?? {}).flatMap(([kind, entity]) =>
    ["inferredBehaviorCallbacks", "overrideBehaviorCallbacks"].flatMap((name) => {
      const list: unknown = Reflect.get(entity ?? {}, name);
      return Array.isArray(list) ? list.map(([source]) => `${kind} ${String(source)}`) : [];
    }),
  );
  const resources = Object.values(input.pgRegistry.pgResources).map(
    (resource) => `${resource.name} ${behavior.getBehaviorForEntity("pgResource", resource).behaviorString}`,
  );
  return [String(Reflect.get(behavior, "globalDefaultBehavior")), ...callbacks, ...resources];
}

/** `told` is called when a schema is finished. */
export function recorder(told: (orders: Orders) => void): GraphileConfig.Plugin {
  let plugins: readonly string[] = [];
  return {
    name: "RecorderPlugin",
    version: "1.0.0",
    gather: {
      hooks: {
        pgIntrospection_introspection({ resolvedPreset }) {
          plugins = resolvedPreset.plugins.map(({ name }) => name);
        },
      },
    },
    schema: {
      hooks: {
        finalize(schema, build) {
          told({ plugins, behaviors: behaviorsOf(build) });
          return schema;
        },
      },
    },
  };
}

/** For hosts: the tenant's setting `preset` selects one; the record is written to a file named by its setting `file`. */
export default function preset({
  settings,
}: {
  settings: Readonly<Record<string, string>>;
}): GraphileConfig.Preset {
  const file = join(env["TEST_ORDERS"] ?? "", `${settings["file"]}.json`);
  return {
    extends: streetPresets[settings["preset"] ?? ""] ?? [],
    plugins: [recorder((orders) => writeFileSync(file, JSON.stringify(orders)))],
    gather: { pgJwtTypes: ["app.session"] },
  };
}
