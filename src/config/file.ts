/** The config file: finding it, loading it, and locating its errors. */
import { readFile } from "node:fs/promises";
import { extname, join, resolve as resolvePath } from "node:path";
import { pathToFileURL } from "node:url";
import type { Fault } from "../validation/config-error.ts";
import type { Environment } from "./environment.ts";
import { isFile } from "./module-file.ts";
import { jsonFault, moduleFault } from "./syntax.ts";

const names = [
  "rowhouse.config.ts",
  "rowhouse.config.mts",
  "rowhouse.config.js",
  "rowhouse.config.mjs",
  "rowhouse.config.json",
];

export interface ConfigPlace {
  readonly file: string;
  /** What selected the file. */
  readonly from: string;
}

/**
 * The config file; null if none is named and none exists. Two in one directory are a fault, because it would
 * be unclear which one counts.
 */
export async function findConfigFile(
  { file, cwd }: { readonly file?: string | undefined; readonly cwd: string },
  env: Environment,
): Promise<ConfigPlace | null | { readonly faults: readonly Fault[] }> {
  if (file !== undefined) return { file: resolvePath(cwd, file), from: "--config" };
  const named = env["ROWHOUSE_CONFIG"];
  if (named !== undefined) return { file: resolvePath(cwd, named), from: "ROWHOUSE_CONFIG" };
  const there: string[] = [];
  for (const name of names) if (await isFile(join(cwd, name))) there.push(name);
  const [first, ...others] = there;
  if (first === undefined) return null;
  const path = join(cwd, first);
  if (others.length === 0) return { file: path, from: path };
  const message = `${there.join(" and ")} both exist: keep one of them, or select one with --config`;
  return { faults: [{ path: cwd, message }] };
}

/** The file's export, or why it cannot be loaded. No message quotes the file: it may hold secrets. */
export async function readConfigFile({
  file,
  from,
}: ConfigPlace): Promise<{ readonly value: unknown } | { readonly faults: readonly Fault[] }> {
  const fault = (message: string) => ({ faults: [{ path: from, message }] });
  if (!(await isFile(file))) return fault(`there is no file ${file}`);
  if (extname(file) === ".json") {
    const text = (await readFile(file, "utf8")).replace(/^\ufeff/, "");
    try {
      return { value: withoutSchema(JSON.parse(text)) };
    } catch {
      return fault(`${file}${await jsonFault(text)}`);
    }
  }
  try {
    const { default: value }: { readonly default?: unknown } = await import(pathToFileURL(file).href);
    if (value === undefined) return fault(`${file} has no default export`);
    // A promise or class instance has no keys that could be read: every setting would silently get its
    // default.
    if (!isKeyed(value)) return fault(`the default export of ${file} is not a plain object`);
    return { value };
  } catch (error) {
    return fault(`${await moduleFault(file, error)}${moduleHint(error)}`);
  }
}

/** Removes `$schema`, which editors use for completion and checks. */
function withoutSchema(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const { $schema, ...rest }: Readonly<Record<string, unknown>> = { ...value };
  return $schema === undefined || typeof $schema === "string" ? rest : value;
}

/**
 * False for an object whose prototype is neither null nor that of plain objects in some realm. Other values
 * are left for the schema to reject.
 */
function isKeyed(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * A hint if Node (24.21) read an ES module as CommonJS, because of the `"type": "commonjs"` that `npm init`
 * writes into package.json.
 */
function moduleHint(error: unknown): string {
  const misread =
    error instanceof SyntaxError && /outside a module|Unexpected token 'export'/.test(error.message);
  return misread ? `; rename it to .mts or .mjs, or set "type": "module" in its package.json` : "";
}
