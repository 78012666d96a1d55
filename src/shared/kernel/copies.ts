/** Packages of which a process may have only one copy: objects of one copy are not recognised by another. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, sep } from "node:path";

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
  const files = [...family.flatMap((name) => resolved(throughPostgraphile(own), name))];
  const from = [preset, throughPostgraphile(preset), ...dependenciesOf(preset)];
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
    `two copies of one package do not know each other's types: ${listed}. ` +
    `Have one: npm install --save-exact postgraphile@${version}, leave the others of its family to it, and npm dedupe`
  );
}

type Require = ReturnType<typeof createRequire>;

function ownVersion(): string {
  const [file = ""] = resolved(createRequire(import.meta.url), "postgraphile");
  return versionAt(packageOf(file)?.[1] ?? "");
}

function resolved(require: Require, name: string): string[] {
  try {
    return [require.resolve(name)];
  } catch {
    return [];
  }
}

/** Resolves the family the way postgraphile itself does. */
function throughPostgraphile(require: Require): Require {
  const [file] = resolved(require, "postgraphile");
  return file === undefined ? require : createRequire(file);
}

/** Resolves the family the way the dependencies of the preset's project do. */
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

/** The package that a file belongs to, and its directory. */
function packageOf(file: string): [name: string, path: string] | null {
  const parts = file.split(sep);
  const at = parts.lastIndexOf("node_modules");
  const length = parts[at + 1]?.startsWith("@") === true ? 2 : 1;
  const names = parts.slice(at + 1, at + 1 + length);
  if (at === -1 || names.length < length) return null;
  return [names.join("/"), parts.slice(0, at + 1 + length).join(sep)];
}

function versionAt(path: string): string {
  return manifestAt(path)?.version ?? "of unknown version";
}

function manifestAt(path: string): { readonly version: string; readonly dependencies: object } | null {
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  } catch {
    return null;
  }
  if (typeof manifest !== "object" || manifest === null) return null;
  const version = "version" in manifest ? String(manifest.version) : "of unknown version";
  const own = "dependencies" in manifest ? manifest.dependencies : null;
  return { version, dependencies: typeof own === "object" && own !== null ? own : {} };
}
