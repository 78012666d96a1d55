// What the package's exports are made of: what was built, or in a checkout the source itself.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The module at `path`, from the package's root and without its ending. */
export function load(path) {
  const built = new URL(`../dist/${path}.js`, import.meta.url);
  const source = new URL(`../${path}.ts`, import.meta.url);
  return import(existsSync(fileURLToPath(built)) ? built.href : source.href);
}
