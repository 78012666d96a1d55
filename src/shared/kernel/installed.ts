/** Which version of a package this process runs on, and where it lies. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";

export type Require = ReturnType<typeof createRequire>;

/** The version of a package; null where it is not installed. */
export type VersionOf = (name: string) => string | null;

/**
 * For a package that Rowhouse does not load itself, the packages through which it is loaded: if there are two copies,
 * this finds the one in use.
 */
const ways: Readonly<Record<string, readonly string[]>> = {
  "@dataplan/pg": ["postgraphile"],
  grafast: ["postgraphile"],
  grafserv: ["postgraphile"],
  "graphile-build": ["postgraphile"],
  "graphile-build-pg": ["postgraphile"],
  "graphile-config": ["postgraphile"],
  "pg-introspection": ["postgraphile", "graphile-build-pg"],
  "pg-pool": ["pg"],
  "pg-sql2": ["postgraphile"],
  transliteration: ["postgraphile", "graphile-build"],
};

/** The version of the copy of `name` that Rowhouse works with; `node` is the runtime. */
export function installedVersion(name: string): string | null {
  if (name === "node") return process.versions.node;
  let require = createRequire(import.meta.url);
  for (const each of ways[name] ?? []) require = through(require, each);
  const [file] = resolved(require, name);
  return file === undefined ? null : versionAbove(file, name);
}

/** By the nearest package.json of that name: a package that is linked from elsewhere lies in no node_modules. */
function versionAbove(file: string, name: string): string | null {
  for (let path = dirname(file); ; path = dirname(path)) {
    const manifest = manifestAt(path);
    if (manifest?.name === name) return manifest.version;
    if (path === dirname(path)) return null;
  }
}

/** The file that `name` is loaded from, in a list; an empty one where there is none. */
export function resolved(require: Require, name: string): string[] {
  try {
    return [require.resolve(name)];
  } catch {
    return [];
  }
}

/** As the package `name` itself finds others. */
export function through(require: Require, name: string): Require {
  const [file] = resolved(require, name);
  return file === undefined ? require : createRequire(file);
}

/** The package that a file belongs to, and where that lies. */
export function packageOf(file: string): [name: string, path: string] | null {
  const parts = file.split(sep);
  const at = parts.lastIndexOf("node_modules");
  const length = parts[at + 1]?.startsWith("@") === true ? 2 : 1;
  const names = parts.slice(at + 1, at + 1 + length);
  if (at === -1 || names.length < length) return null;
  return [names.join("/"), parts.slice(0, at + 1 + length).join(sep)];
}

export function versionAt(path: string): string {
  return manifestAt(path)?.version ?? "of unknown version";
}

export interface Manifest {
  readonly name: string | null;
  readonly version: string;
  readonly dependencies: object;
}

export function manifestAt(path: string): Manifest | null {
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  } catch {
    return null;
  }
  if (typeof manifest !== "object" || manifest === null) return null;
  const version = "version" in manifest ? String(manifest.version) : "of unknown version";
  const name = "name" in manifest && typeof manifest.name === "string" ? manifest.name : null;
  const own = "dependencies" in manifest ? manifest.dependencies : null;
  return { name, version, dependencies: typeof own === "object" && own !== null ? own : {} };
}
