/** The preset of one instance: the user's, or Amber, and what Rowhouse adds on top. */
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { copiesText, loadedCopies } from "../src/kernel/copies.ts";
import { HostError, messageOf } from "../src/kernel/errors.ts";
import type { BlueprintSpec, CellSetup } from "../src/protocol/messages.ts";
import type { ServingWithPgClient } from "./adaptor.ts";
import { behaviorMatchesPlugin } from "./behavior-matches.ts";
import type { BuildingAdaptor } from "./build-adaptor.ts";
import { instanceFacts } from "./facts.ts";
import { hidingHints } from "./hints.ts";
import { loginTokensPlugin, replacedPlugin } from "./login-tokens.ts";
import { errorMask, type Log } from "./mask.ts";
import { rowhousePlugin } from "./plugin.ts";
import { builtNames } from "./schema-names.ts";
import { namesPlugin, rootsPlugin } from "./served-plugins.ts";

declare global {
  namespace GraphileConfig {
    interface PgAdaptors {
      rowhouse: { adaptorSettings: undefined; makePgServiceOptions: never; client: NodePostgresPgClient };
    }
  }
}

/** A plan of PostGraphile's takes 5–80 ms, 400 ms when its code is still cold. */
const planningTimeoutMs = 1_000;

/** What a preset module that exports a function is called with: what tells variants of a blueprint apart, never a tenant. */
export interface PresetFacts {
  readonly api: string | null;
  readonly mode: string | null;
  readonly settings: Readonly<Record<string, string | boolean>>;
  readonly schemas: readonly string[];
}

function isPreset(value: unknown): value is GraphileConfig.Preset {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The user's preset for `spec`; throws `BUILD_FAILED` where the module cannot be loaded or gives no preset. */
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
    throw new HostError("BUILD_FAILED", `the preset ${url} has no preset as its default export`);
  return exported;
}

/** Composes the preset of an instance; its own service replaces whatever services the user's preset names. */
export async function instancePreset(
  setup: CellSetup,
  spec: BlueprintSpec,
  building: BuildingAdaptor,
  serving: () => ServingWithPgClient,
  isServing: () => boolean,
  log: Log,
): Promise<GraphileConfig.Preset> {
  const user = await userPreset(setup.preset, spec);
  const mask = errorMask(setup.production, log);
  const maskError = user.grafserv?.maskError ?? mask.late;
  const service: GraphileConfig.PgServiceConfiguration<"rowhouse"> = {
    name: "main",
    schemas: [...builtNames(spec)],
    pgSettingsKey: "pgSettings",
    withPgClientKey: "withPgClient",
    pgSettings: (request) => request.rowhouse.settings,
    adaptor: {
      createWithPgClient: () => (settings, callback) =>
        isServing() ? serving()(settings, callback) : building.withPgClient(settings, callback),
      makePgService: () => {
        throw new HostError("INTERNAL", "services are made by the host");
      },
    },
  };
  return {
    extends: [user],
    plugins: [
      behaviorMatchesPlugin(),
      rowhousePlugin(spec, serving, mask.early, setup.operations),
      loginTokensPlugin(spec),
      namesPlugin(spec, building.needs),
      rootsPlugin(log),
    ],
    disablePlugins: [replacedPlugin],
    lib: { rowhouse: instanceFacts(spec) },
    pgServices: [service],
    gather: {
      pgIdentifiers: spec.kind === "pooled" ? "unqualified" : "qualified",
      installWatchFixtures: false,
    },
    // Planning is synchronous: a query that fans out over fragments would fill the heap before it is planned.
    grafast: { timeouts: { planning: planningTimeoutMs, ...user.grafast?.timeouts } },
    grafserv: {
      watch: false,
      graphqlPath: "/graphql",
      graphiql: setup.graphiql,
      graphiqlOnGraphQLGET: setup.graphiql,
      graphiqlPath: "/",
      graphiqlStaticPath: "/ruru-static/",
      // The front has bounded the body already.
      maxRequestLength: Number.MAX_SAFE_INTEGER,
      maskError: setup.operations.introspection ? maskError : hidingHints(maskError),
    },
  };
}
