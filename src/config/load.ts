/** Finds, reads and checks the config: file, then environment, then options. */
import { readFile } from "node:fs/promises";
import { dirname, extname, join, resolve as resolvePath } from "node:path";
import { pathToFileURL } from "node:url";
import { messageOf } from "../kernel/errors.ts";
import { ConfigError, type Fault, faultsOf, pathText } from "../kernel/fault.ts";
import { crossFaults, missingModules } from "./checks.ts";
import type { Config } from "./config.ts";
import {
  applyOverride,
  type Environment,
  environmentOverrides,
  heapLimitFaults,
  type Override,
} from "./environment.ts";
import { availableMemoryMb } from "./memory.ts";
import { isFile } from "./module-file.ts";
import { resolveConfig } from "./resolve.ts";
import { configSchema } from "./schema.ts";

export interface LoadOptions {
  /** `--config`; relative to `cwd`. */
  readonly file?: string | undefined;
  readonly env: Environment;
  readonly cwd: string;
  /** `--port` and `--admin-port`; they win over everything. */
  readonly overrides?: { readonly port?: number | undefined; readonly adminPort?: number | undefined };
  readonly execArgv?: readonly string[];
}

const names = [
  "rowhouse.config.ts",
  "rowhouse.config.mts",
  "rowhouse.config.js",
  "rowhouse.config.mjs",
  "rowhouse.config.json",
];

/** The config of this process; throws `ConfigError` with every fault of file, environment and options. */
export async function loadConfig(options: LoadOptions): Promise<Config> {
  const { env, cwd, execArgv = process.execArgv } = options;
  const environment = environmentOverrides(env);
  const overrides = [...environment.overrides, ...optionOverrides(options)];
  const faults = [...heapLimitFaults(env, execArgv), ...environment.faults];

  const place = await findFile(options);
  const written = place === null ? { value: {} } : await readConfigFile(place.file, place.from);
  if ("faults" in written) throw new ConfigError([...faults, ...written.faults]);

  const directory = place === null ? cwd : dirname(place.file);
  const raw = overrides.reduce(applyOverride, written.value);
  const parsed = configSchema.safeParse(raw);
  const found = [
    ...faultsOf(parsed.error?.issues ?? []),
    ...crossFaults(raw),
    ...(await missingModules(raw, directory)),
  ];
  for (const { path, message } of found) {
    faults.push({ path: path === "" ? (place?.file ?? "config") : originOf(path, overrides), message });
  }
  if (!parsed.success || faults.length > 0) throw new ConfigError(faults);

  return resolveConfig(parsed.data, {
    file: place?.file ?? null,
    directory,
    production: env["NODE_ENV"] === "production",
    availableMemoryMb: availableMemoryMb(),
  });
}

function optionOverrides({ overrides }: LoadOptions): Override[] {
  const given: Override[] = [];
  if (overrides?.port !== undefined)
    given.push({ path: ["listen", "port"], value: overrides.port, from: "--port" });
  if (overrides?.adminPort !== undefined) {
    given.push({ path: ["admin", "port"], value: overrides.adminPort, from: "--admin-port" });
  }
  return given;
}

/** Who set the value at `path`: the last override of it, else the file itself. */
function originOf(path: string, overrides: readonly Override[]): string {
  return overrides.findLast((override) => pathText(override.path) === path)?.from ?? path;
}

/** The config file, and what named it; null where nothing does and there is none. */
async function findFile({ file, env, cwd }: LoadOptions): Promise<{ file: string; from: string } | null> {
  if (file !== undefined) return { file: resolvePath(cwd, file), from: "--config" };
  const named = env["ROWHOUSE_CONFIG"];
  if (named !== undefined) return { file: resolvePath(cwd, named), from: "ROWHOUSE_CONFIG" };
  for (const name of names) {
    const candidate = join(cwd, name);
    if (await isFile(candidate)) return { file: candidate, from: candidate };
  }
  return null;
}

/** What the file exports, or why that cannot be had. No message quotes the file: it may hold secrets. */
async function readConfigFile(
  file: string,
  from: string,
): Promise<{ readonly value: unknown } | { readonly faults: readonly Fault[] }> {
  const fault = (message: string) => ({ faults: [{ path: from, message }] });
  if (!(await isFile(file))) return fault(`there is no file ${file}`);
  if (extname(file) === ".json") {
    const text = await readFile(file, "utf8");
    try {
      return { value: JSON.parse(text) };
    } catch (error) {
      const place = /line \d+ column \d+/.exec(messageOf(error))?.[0];
      return fault(`${file} is not valid JSON${place === undefined ? "" : ` (${place})`}`);
    }
  }
  try {
    const { default: value }: { readonly default?: unknown } = await import(pathToFileURL(file).href);
    if (value === undefined) return fault(`${file} has no default export`);
    // Whoever leaves the keys to a promise or an instance leaves none to be read: everything would be its default.
    if (!isKeyed(value)) return fault(`the default export of ${file} is not a plain object`);
    return { value };
  } catch (error) {
    return fault(`${file} cannot be loaded: ${messageOf(error)}${moduleHint(error)}`);
  }
}

/** False for an object whose prototype is neither `Object`'s, of whatever realm, nor none. Other values are the schema's to refuse. */
function isKeyed(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** What to do where node (24.21) took `import` or `export` for CommonJS, as the package's `"type": "commonjs"` says; `npm init` writes that. */
function moduleHint(error: unknown): string {
  const misread =
    error instanceof SyntaxError && /outside a module|Unexpected token 'export'/.test(error.message);
  return misread ? `; give it the ending .mts or .mjs, or set "type": "module" in its package.json` : "";
}
