/** Presets for tests as a user's module would define them: they import Node's copies of packages, not the test runner's. */
import { presetUrl } from "./worker-instance.ts";

const of = (name: string): string => JSON.stringify(import.meta.resolve(name));
const own = (path: string): string => JSON.stringify(new URL(`../../${path}.ts`, import.meta.url).href);

/**
 * A module whose default export is Amber with `plugins`, given as JavaScript list elements. `before` is placed first, and `more`
 * are further properties of the preset.
 */
export function kitPreset(plugins: string, before = "", more = ""): string {
  return presetUrl(`
    import { PostGraphileAmberPreset } from ${of("postgraphile/presets/amber")};
    import { context, lambda } from ${of("postgraphile/grafast")};
    import { instanceOf, perBuild } from ${own("workers/plugin-api/instance")};
    import { requestOf, tenantOf } from ${own("workers/plugin-api/request")};
    import { TenantCache } from ${own("workers/plugin-api/tenant-cache")};
    void [context, lambda, instanceOf, perBuild, requestOf, tenantOf, TenantCache];
    ${before}
    export default { extends: [PostGraphileAmberPreset], plugins: [${plugins}], ${more} };`);
}

/** JavaScript that imports one of Rowhouse's plugins. */
export function importing(plugin: "localized" | "meta" | "uploads"): string {
  return `import { ${plugin} } from ${own(`workers/plugins/${plugin}`)};`;
}

/**
 * JavaScript of a plugin with a field `probe` that answers with the result of `body`, which can use `request`, `context` and
 * `build`.
 */
export function probing(body: string, name = "probe"): string {
  return `{ name: "Probe_${name}", version: "1.0.0", schema: { hooks: { GraphQLObjectType_fields(fields, build, { scope }) {
    if (!scope.isRootQuery) return fields;
    return { ...fields, ${name}: { type: build.graphql.GraphQLString, plan: () => lambda(context(), async (context) => {
      const request = requestOf(context);
      ${body}
    }) } };
  } } } }`;
}
