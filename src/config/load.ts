/** Finds, reads and validates the config: file, then environment, then options. */
import { dirname } from "node:path";
import { ConfigError, type Fault, faultsOf, pathText } from "../validation/config-error.ts";
import { availableMemoryMb } from "./available-memory.ts";
import type { Config } from "./config.ts";
import { crossFaults, missingModules } from "./cross-checks.ts";
import { readDotEnv } from "./dotenv.ts";
import {
  applyOverride,
  type Environment,
  environmentOverrides,
  heapLimitFaults,
  type Override,
} from "./environment.ts";
import { type ConfigPlace, findConfigFile, readConfigFile } from "./file.ts";
import { resolveConfig } from "./resolve.ts";
import { configSchema } from "./schema.ts";
import { suggestSection } from "./suggest.ts";

export interface LoadOptions {
  /** `--config`; relative to `cwd`. */
  readonly file?: string | undefined;
  /** Variables from `.env` files are added to it. */
  readonly env: Record<string, string | undefined>;
  readonly cwd: string;
  /** `--port` and `--admin-port`, which override everything. */
  readonly overrides?: { readonly port?: number | undefined; readonly adminPort?: number | undefined };
  readonly execArgv?: readonly string[];
}

/**
 * The config of this process; throws `ConfigError` with every fault in files, environment and options.
 * Variables from `.env` files that `env` lacks are added to it, before any module is loaded that may read
 * them there.
 */
export async function loadConfig(options: LoadOptions): Promise<Config> {
  const { env, cwd, execArgv = process.execArgv } = options;
  const { place, envFiles, faults } = await findFiles(options);
  const environment = environmentOverrides(env);
  const overrides = [...environment.overrides, ...optionOverrides(options)];
  faults.push(...heapLimitFaults(env, execArgv), ...environment.faults);

  const written = place === null ? { value: {} } : await readConfigFile(place);
  if ("faults" in written) throw new ConfigError([...faults, ...written.faults]);

  const directory = place === null ? cwd : dirname(place.file);
  const raw = overrides.reduce(applyOverride, written.value);
  const parsed = configSchema.safeParse(raw);
  const found = [
    ...faultsOf(parsed.error?.issues ?? []).map(suggestSection),
    ...crossFaults(raw),
    ...(await missingModules(raw, directory)),
  ];
  for (const { path, message } of found) {
    faults.push({ path: path === "" ? (place?.file ?? "config") : originOf(path, overrides), message });
  }
  if (!parsed.success || faults.length > 0) throw new ConfigError(faults);

  return resolveConfig(parsed.data, {
    file: place?.file ?? null,
    envFiles,
    directory,
    production: env["NODE_ENV"] === "production",
    availableMemoryMb: availableMemoryMb(),
  });
}

interface FoundFiles {
  readonly place: ConfigPlace | null;
  readonly envFiles: readonly string[];
  readonly faults: Fault[];
}

/** Reads `.env` in the working directory first, because it may name the config file; then the one beside that. */
async function findFiles(options: LoadOptions): Promise<FoundFiles> {
  const { env, cwd } = options;
  const here = await readDotEnv(cwd);
  fill(env, here.values);
  const place = await findConfigFile(options, env);
  if (place !== null && "faults" in place) throw new ConfigError([...here.faults, ...place.faults]);
  const directory = place === null ? cwd : dirname(place.file);
  const beside = directory === cwd ? null : await readDotEnv(directory);
  fill(env, beside?.values ?? {});
  const read = [here, ...(beside === null ? [] : [beside])];
  return {
    place,
    envFiles: read.map(({ file }) => file).filter((file) => file !== null),
    faults: read.flatMap(({ faults }) => faults),
  };
}

function fill(env: LoadOptions["env"], values: Environment): void {
  for (const [name, value] of Object.entries(values)) env[name] ??= value;
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

/** What set the value at `path`: its last override, else the file itself. */
function originOf(path: string, overrides: readonly Override[]): string {
  return overrides.findLast((override) => pathText(override.path) === path)?.from ?? path;
}
