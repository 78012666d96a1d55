// Loads a module behind one of the package's exports: the built one, or in a checkout the source itself.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The module at `path`, relative to the package's root and without an extension. */
export function load(path) {
  const built = new URL(`../dist/${path}.js`, import.meta.url);
  const source = new URL(`../${path}.ts`, import.meta.url);
  return import(existsSync(fileURLToPath(built)) ? built.href : source.href);
}
