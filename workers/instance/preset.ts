/** The preset of one instance: the user's, or Amber, with Rowhouse's additions. */

import { resolvePreset } from "graphile-config";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { copiesText, loadedCopies } from "../../src/shared/kernel/copies.ts";
import { HostError, messageOf } from "../../src/shared/kernel/errors.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import type { BuildReport, CellSetup } from "../../src/shared/protocol/messages.ts";
import { behaviorMatchesPlugin } from "../graphile/behavior-cache.ts";
import type { Patching } from "../graphile/patching.ts";
import type { ServingWithPgClient } from "../postgres/adaptor.ts";
import { builtNames } from "../postgres/schema-placeholders.ts";
import { errorMask, type Log } from "../request/error-mask.ts";
import { hidingHints } from "../request/hints.ts";
import { livePlugin } from "../request/live.ts";
import { withRequestSettings } from "../request/preset-settings.ts";
import type { BuildingAdaptor } from "./build-adaptor.ts";
import { instanceFacts } from "./instance-facts.ts";
import { unknownPlugins } from "./known-plugins.ts";
import { loginTokensPlugin, replacedPlugin } from "./login-tokens-plugin.ts";
import { unhonouredOf, userService } from "./preset-services.ts";
import { rowhousePlugin, rowhouseRequestPlugin } from "./rowhouse-plugin.ts";
import { namesPlugin, rootsPlugin } from "./served-plugins.ts";

declare global {
  namespace GraphileConfig {
    interface PgAdaptors {
      rowhouse: { adaptorSettings: undefined; makePgServiceOptions: never; client: NodePostgresPgClient };
    }
  }
}

/** PostGraphile takes 5–80 ms for a plan, 400 ms while its code is still cold. */
const planningTimeoutMs = 1_000;

/** The argument of a preset module's exported function: what distinguishes variants of a blueprint, never a tenant. */
export interface PresetFacts {
  readonly api: string | null;
  readonly mode: string | null;
  readonly settings: Readonly<Record<string, string | boolean>>;
  readonly schemas: readonly string[];
}

function isPreset(value: unknown): value is GraphileConfig.Preset {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The user's preset for `spec`; throws `BUILD_FAILED` if the module cannot be loaded or exports no preset. */
async function userPreset(url: string | null, spec: BlueprintSpec): Promise<GraphileConfig.Preset> {
  if (url === null) return PostGraphileAmberPreset;
  let exported: unknown;
  try {
    const loaded: { default?: unknown } = await import(url);
    exported = loaded.default;
    if (typeof exported === "function") {
      const facts: PresetFacts = {
        api: spec.api,
        mode: spec.mode,
        settings: spec.settings,
        schemas: spec.schemas.map((schema) => schema.logical),
      };
      exported = await exported(facts);
    }
  } catch (error) {
    throw new HostError("BUILD_FAILED", `the preset ${url} failed: ${messageOf(error)}`, { cause: error });
  }
  const copies = loadedCopies();
  if (copies.length > 0) throw new HostError("BUILD_FAILED", `the preset ${url}: ${copiesText(copies)}`);
  if (!isPreset(exported))
    throw new HostError("BUILD_FAILED", `the default export of ${url} is not a preset`);
  return exported;
}

function readsMore(plugins: readonly string[]): HostError {
  const others = plugins.length > 5 ? `, and ${plugins.length - 5} more` : "";
  const listed = plugins.slice(0, 5).join(", ") + others;
  return new HostError(
    "BUILD_READS_MORE",
    `the preset has plugins that may read more of the catalogue than the core shape covers: ${listed}`,
  );
}

type Service = GraphileConfig.PgServiceConfiguration<"rowhouse">;

/**
 * The parts of the user's service that the instance's own takes over: its settings, which those of the request and of the host
 * override.
 */
function serviceSettings(
  user: GraphileConfig.ResolvedPreset,
  log: Log,
): Pick<Service, "pgSettings" | "pgSettingsForIntrospection"> {
  const { pgSettings, pgSettingsForIntrospection } = userService(user) ?? {};
  const logged = new Set<string>();
  // Reserved names in a constant object are reported by the build.
  const leaveOut = (name: string): void => {
    if (typeof pgSettings !== "function" || logged.has(name)) return;
    logged.add(name);
    log("warn", `${name} in the preset's pgSettings is ignored: the host sets it`);
  };
  const made =
    pgSettings === undefined || pgSettings === null
      ? (request: Grafast.RequestContext) => request.rowhouse.settings
      : (request: Grafast.RequestContext) => {
          const given = typeof pgSettings === "function" ? pgSettings(request) : pgSettings;
          if (typeof given === "object" && given !== null && "then" in given) {
            throw new TypeError(
              "pgSettings of the preset's service returned a promise, which is not supported: compute asynchronous settings in grafast.context",
            );
          }
          return withRequestSettings(given, request.rowhouse, leaveOut);
        };
  return {
    pgSettings: made,
    ...(pgSettingsForIntrospection == null ? {} : { pgSettingsForIntrospection }),
  };
}

/**
 * The user's plugins in their order, with the host's before and after, where they move none of them: graphile-config would sort
 * its order by plugin names anew for every added plugin that has a position of its own. PostGraphile's token plugin is replaced
 * in its place.
 */
function pluginsOf(
  user: GraphileConfig.ResolvedPreset,
  host: { readonly first: readonly GraphileConfig.Plugin[]; readonly last: readonly GraphileConfig.Plugin[] },
): Pick<GraphileConfig.ResolvedPreset, "plugins" | "disablePlugins"> {
  const plugins = user.plugins.map((plugin) =>
    plugin.name === replacedPlugin ? loginTokensPlugin(plugin) : plugin,
  );
  return {
    plugins: [...host.first, ...plugins, ...host.last],
    disablePlugins: [...new Set([...user.disablePlugins, replacedPlugin])],
  };
}

/** An instance's preset, and the names of the user's options that it ignores. */
export interface InstancePreset extends Pick<BuildReport, "unhonoured" | "unknownPlugins"> {
  readonly preset: GraphileConfig.ResolvedPreset;
}

/** What an instance's preset is composed of. */
export interface PresetParts {
  readonly setup: CellSetup;
  readonly spec: BlueprintSpec;
  readonly building: BuildingAdaptor;
  /** Access for requests; called only once `isServing`. */
  readonly serving: () => ServingWithPgClient;
  readonly isServing: () => boolean;
  readonly log: Log;
  readonly patching: Patching;
}

/** Composes the preset of an instance; the instance's own service replaces the user's. */
export async function instancePreset(parts: PresetParts): Promise<InstancePreset> {
  const { setup, spec, building, serving, isServing, log, patching } = parts;
  const user = resolvePreset(await userPreset(setup.preset, spec));
  const unknown = unknownPlugins(user.plugins);
  if (spec.shape === "core" && unknown.length > 0) throw readsMore(unknown);
  const mask = errorMask(setup.production, log);
  const maskError = user.grafserv?.maskError ?? mask.late;
  const service: Service = {
    name: "main",
    schemas: [...builtNames(spec)],
    pgSettingsKey: "pgSettings",
    withPgClientKey: "withPgClient",
    ...serviceSettings(user, log),
    adaptor: {
      createWithPgClient: () => (settings, callback) =>
        isServing() ? serving()(settings, callback) : building.withPgClient(settings, callback),
      makePgService: () => {
        throw new HostError("INTERNAL", "the host creates the services itself");
      },
    },
  };
  const preset: GraphileConfig.ResolvedPreset = {
    ...user,
    ...pluginsOf(user, {
      first: [
        rowhousePlugin(serving, mask.early, setup.operations, patching),
        namesPlugin(spec, building.needs),
      ],
      last: [
        behaviorMatchesPlugin(patching),
        ...(setup.realtime === true ? [livePlugin] : [rootsPlugin(log)]),
        rowhouseRequestPlugin(setup.operations),
      ],
    }),
    lib: { ...user.lib, rowhouse: instanceFacts(spec) },
    pgServices: [service],
    gather: {
      ...user.gather,
      pgIdentifiers: spec.kind === "pooled" ? "unqualified" : "qualified",
      installWatchFixtures: false,
    },
    // Planning is synchronous, so an operation that fans out over fragments could fill the heap before its plan is complete.
    grafast: { ...user.grafast, timeouts: { planning: planningTimeoutMs, ...user.grafast?.timeouts } },
    grafserv: {
      ...user.grafserv,
      watch: false,
      graphqlPath: "/graphql",
      graphiql: setup.graphiql,
      graphiqlOnGraphQLGET: setup.graphiql,
      graphiqlPath: "/",
      graphiqlStaticPath: "/ruru-static/",
      // The front has already limited the body.
      maxRequestLength: Number.MAX_SAFE_INTEGER,
      maskError: setup.operations.introspection ? maskError : hidingHints(maskError),
    },
  };
  return { preset, unhonoured: unhonouredOf(user, spec), unknownPlugins: unknown };
}
