/** Plugins that restrict a built schema to what its host can serve, and translate schema names. */

import type {} from "postgraphile/graphile-build";
import type {} from "postgraphile/graphile-build-pg";
import { sql } from "postgraphile/pg-sql2";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { dependsOnSetting, qualifiedSetting } from "../graphile/reg-text.ts";
import { LeftOutNames, leftOutSchema } from "../postgres/left-out.ts";
import { builtNames, ownName } from "../postgres/schema-placeholders.ts";
import type { Setting } from "../postgres/settings.ts";
import type { Log } from "../request/error-mask.ts";

declare global {
  namespace GraphileConfig {
    interface Plugins {
      RowhouseNamesPlugin: true;
      RowhouseRootsPlugin: true;
    }
  }
}

/**
 * Has the SQL of a dedicated instance name the schemas that are there, whatever the build calls them, and that of a pooled one no object that
 * it leaves out; `needs` is called with what requests must set.
 */
export function namesPlugin(spec: BlueprintSpec, needs: (setting: Setting) => void): GraphileConfig.Plugin {
  const logical = builtNames(spec);
  const physical = new Map(spec.schemas.map((schema) => [schema.logical, schema.physical]));
  const leftOut = new LeftOutNames(spec);
  const own = (called: string): string => physical.get(called) ?? ownName(called, logical);
  return {
    name: "RowhouseNamesPlugin",
    version: "1.0.0",
    gather: {
      initialState(_cache, { helpers }) {
        const { pgBasics } = helpers;
        const original = pgBasics.identifier;
        // Nothing has been named yet: a gather's states are made before anything of it runs. The helpers are that one gather's.
        pgBasics.identifier = (called = "", ...names) =>
          leftOut.in(called).has(names[0] ?? "")
            ? sql.identifier(leftOutSchema, ...names)
            : original(own(called), ...names);
        return {};
      },
      hooks: {
        pgCodecs_PgCodec(_info, { pgCodec }) {
          if (spec.kind === "dedicated" && dependsOnSetting(pgCodec)) needs([qualifiedSetting, "on"]);
        },
      },
    },
  };
}

/** Removes the root type for subscriptions where they are not served: a client that finds them listed would only fail. */
export function rootsPlugin(log: Log): GraphileConfig.Plugin {
  return {
    name: "RowhouseRootsPlugin",
    version: "1.0.0",
    schema: {
      hooks: {
        GraphQLSchema: {
          after: ["Subscription"],
          callback(config) {
            const { subscription, ...served } = config;
            if (!subscription) return config;
            const fields = Object.keys(subscription.getFields()).join(", ");
            log(
              "warn",
              `the schema leaves out ${subscription.name} (${fields}): subscriptions are not served without realtime`,
            );
            return served;
          },
        },
        // Plugins that extend the root type list it among the types as well.
        GraphQLSchema_types: {
          after: ["CollectReferencedTypesPlugin"],
          callback(types, { getTypeByName, inflection }) {
            const root = getTypeByName(inflection.builtin("Subscription"));
            return types.filter((type) => type !== root);
          },
        },
      },
    },
  };
}
