/** Packages of which a process may have one copy only: the objects of one are nothing to another. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { manifestAt, packageOf, type Require, resolved, through, versionAt } from "./installed.ts";

/** PostGraphile, and what a preset and its plugins take from it or beside it. */
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

/** Of one package. */
export interface Copies {
  readonly name: string;
  readonly places: readonly { readonly path: string; readonly version: string }[];
}

const known = new Set<string>(family);

/** Those of the family that the modules at `files` belong to more than one copy of. */
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

/** Those of the family that this thread has loaded more than once. */
export function loadedCopies(): Copies[] {
  return copiesAmong(Object.keys(createRequire(import.meta.url).cache));
}

/**
 * Those of the family that the module at `url`, or a package that its project depends on, would load a copy of that is not
 * Rowhouse's own. Whether it does load it, nobody knows yet.
 */
export function copiesFor(url: string): Copies[] {
  const own = createRequire(import.meta.url);
  const preset = createRequire(url);
  const files = [...family.flatMap((name) => resolved(through(own, "postgraphile"), name))];
  const from = [preset, through(preset, "postgraphile"), ...dependenciesOf(preset)];
  for (const each of from) files.push(...family.flatMap((name) => resolved(each, name)));
  return copiesAmong(files);
}

/** What stands between the places, and what ends it, in a sentence or two. */
export function copiesText(copies: readonly Copies[]): string {
  const listed = copies
    .map(
      ({ name, places }) =>
        `${name} ${places.map(({ path, version }) => `${version} in ${path}`).join(" and ")}`,
    )
    .join("; ");
  const version = ownVersion();
  return (
    `two copies of one package do not know each other's types: ${listed}. ` +
    `Have one: npm install --save-exact postgraphile@${version}, leave the others of its family to it, and npm dedupe`
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
