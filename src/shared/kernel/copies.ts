/** Packages of which a process may have one copy only: the objects of one are nothing to another. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { manifestAt, packageOf, type Require, resolved, through, versionAt } from "./installed.ts";

/** PostGraphile, and the packages that a preset and its plugins import from it or beside it. */
const family = [
  "postgraphile",
  "grafast",
  "grafserv",
  "graphile-build",
  "graphile-build-pg",
  "graphile-config",
  "@dataplan/pg",
  "@dataplan/json",
  "pg-sql2",
  "graphql",
] as const;

/** The copies of one package. */
export interface Copies {
  readonly name: string;
  readonly places: readonly { readonly path: string; readonly version: string }[];
}

const known = new Set<string>(family);

/** The packages of the family of which `files` belong to more than one copy. */
export function copiesAmong(files: Iterable<string>): Copies[] {
  const places = new Map<string, Set<string>>();
  for (const file of files) {
    const [name, path] = packageOf(file) ?? [];
    if (name === undefined || path === undefined || !known.has(name)) continue;
    places.set(name, (places.get(name) ?? new Set()).add(path));
  }
  return [...places].flatMap(([name, paths]) =>
    paths.size < 2
      ? []
      : [{ name, places: [...paths].toSorted().map((path) => ({ path, version: versionAt(path) })) }],
  );
}

/** The packages of the family that this thread has loaded more than once. */
export function loadedCopies(): Copies[] {
  return copiesAmong(Object.keys(createRequire(import.meta.url).cache));
}

/**
 * The packages of the family of which the module at `url`, or a dependency of its project, would load a copy
 * other than Rowhouse's own. Whether it does load it is not known yet.
 */
export function copiesFor(url: string): Copies[] {
  const own = createRequire(import.meta.url);
  const preset = createRequire(url);
  const files = [...family.flatMap((name) => resolved(through(own, "postgraphile"), name))];
  const from = [preset, through(preset, "postgraphile"), ...dependenciesOf(preset)];
  for (const each of from) files.push(...family.flatMap((name) => resolved(each, name)));
  return copiesAmong(files);
}

/** Describes the copies, and how to get down to one, in a sentence or two. */
export function copiesText(copies: readonly Copies[]): string {
  const listed = copies
    .map(
      ({ name, places }) =>
        `${name} ${places.map(({ path, version }) => `${version} in ${path}`).join(" and ")}`,
    )
    .join("; ");
  const version = ownVersion();
  return (
    `two copies of a package do not recognise each other's types: ${listed}. ` +
    `Keep one: npm install --save-exact postgraphile@${version}, remove the other packages of its family from package.json, and run npm dedupe`
  );
}

function ownVersion(): string {
  const [file = ""] = resolved(createRequire(import.meta.url), "postgraphile");
  return versionAt(packageOf(file)?.[1] ?? "");
}

/** As the packages find it that the preset's project depends on. */
function dependenciesOf(preset: Require): Require[] {
  for (const directory of preset.resolve.paths("postgraphile") ?? []) {
    const manifest = manifestAt(join(directory, ".."));
    if (manifest === null) continue;
    return Object.keys(manifest.dependencies).flatMap((name) =>
      resolved(preset, name).map((file) => createRequire(file)),
    );
  }
  return [];
}
