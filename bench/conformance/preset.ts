/** The preset of a document, composed as in the suite's own tests; used by stock PostGraphile and, as a module, by cells. */
import { StreamDeferPlugin } from "postgraphile/graphile-build";
import type {} from "postgraphile/graphile-build-pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { makeV4Preset } from "postgraphile/presets/v4";
import { z } from "zod";

const optionsShape = z.object({
  extends: z.array(z.tuple([z.string(), z.string()])),
  v4: z.boolean(),
  directives: z.record(z.string(), z.unknown()),
});

/** Build errors that the suite's documents provoke are ignored. */
const SwallowAllErrorsPlugin: GraphileConfig.Plugin = {
  name: "SwallowAllErrorsPlugin",
  schema: {
    hooks: {
      build(build) {
        build.handleRecoverableError = () => undefined;
        return build;
      },
    },
  },
};

/** `options` is the JSON of `PresetOptions`. */
export async function presetFor(options: string): Promise<GraphileConfig.Preset> {
  const { extends: modules, v4, directives } = optionsShape.parse(JSON.parse(options));
  const { graphileBuildOptions, setofFunctionsContainNulls } = directives;
  const extended = await Promise.all(modules.map(([module, name]) => exported(module, name)));
  return {
    extends: [PostGraphileAmberPreset, ...extended, ...(v4 ? [makeV4Preset(directives)] : [])],
    plugins: [StreamDeferPlugin, SwallowAllErrorsPlugin],
    schema: {
      pgForbidSetofFunctionsToReturnNull: setofFunctionsContainNulls === false,
      muteWarnings: true,
      ...Object(graphileBuildOptions),
    },
    gather: { muteWarnings: true },
    // Generous timeouts, because only answers are compared, however busy the machine is.
    grafast: { timeouts: { planning: 60_000, execution: 60_000 } },
  };
}

async function exported(module: string, name: string): Promise<GraphileConfig.Preset> {
  const loaded: Record<string, unknown> = await import(module);
  const preset = loaded[name];
  if (!isPreset(preset)) throw new Error(`${module} exports no preset ${name}`);
  return preset;
}

function isPreset(value: unknown): value is GraphileConfig.Preset {
  return typeof value === "object" && value !== null;
}

/** The secret belongs to the tenant, not to the preset. */
const withoutSecret = (options: string): string =>
  JSON.stringify(JSON.parse(options), (key, value) => (key === "jwtSecret" ? undefined : value));

export default (facts: { readonly settings: Readonly<Record<string, string | boolean>> }) =>
  presetFor(withoutSecret(String(facts.settings["options"])));
