/** The preset of a document, as the suite's own tests put it together; for stock PostGraphile and, as a module, for cells. */
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

/** What the suite's documents make of their errors while they are built is nothing. */
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

/** `options`: JSON of `PresetOptions`. */
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
    // However busy the machine is: what is compared are answers.
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

/** Whoever serves a tenant has its secret: it is no part of the preset. */
const withoutSecret = (options: string): string =>
  JSON.stringify(JSON.parse(options), (key, value) => (key === "jwtSecret" ? undefined : value));

export default (facts: { readonly settings: Readonly<Record<string, string | boolean>> }) =>
  presetFor(withoutSecret(String(facts.settings["options"])));
