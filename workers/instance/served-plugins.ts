/** Plugins that restrict a built schema to what its host can serve, and translate schema names. */
import type {} from "postgraphile/graphile-build";
import type {} from "postgraphile/graphile-build-pg";
import type { BlueprintSpec } from "../../src/shared/protocol/messages.ts";
import { dependsOnSetting, qualifiedSetting } from "../graphile/reg-text.ts";
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
 * Makes the SQL of a dedicated instance use the physical schemas, whatever names the build has for them. `needs` is called with
 * each setting that requests must make.
 */
export function namesPlugin(spec: BlueprintSpec, needs: (setting: Setting) => void): GraphileConfig.Plugin {
  const logical = builtNames(spec);
  const physical = new Map(spec.schemas.map((schema) => [schema.logical, schema.physical]));
  const own = (called: string): string => physical.get(called) ?? ownName(called, logical);
  return {
    name: "RowhouseNamesPlugin",
    version: "1.0.0",
    gather: {
      initialState(_cache, { helpers }) {
        const { pgBasics } = helpers;
        const original = pgBasics.identifier;
        // Nothing has been named yet, because a gather's states are made before any of it runs. The helpers belong to that gather
        // alone.
        pgBasics.identifier = (called = "", ...names) => original(own(called), ...names);
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

/** Removes the root type for subscriptions: they are not served, and a client that finds them listed would only fail. */
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
              `the schema leaves out ${subscription.name} (${fields}): subscriptions are not served`,
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
