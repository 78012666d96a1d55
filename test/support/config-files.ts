/** Config files in directories of their own, and the faults found in them. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { type LoadOptions, loadConfig } from "../../src/config/load.ts";
import { ConfigError } from "../../src/validation/config-error.ts";

export interface ConfigFiles {
  /** Creates a directory with these files. Never reused, because a module is imported only once per URL. */
  directory(files?: Record<string, string | object>): Promise<string>;
  load(cwd: string, options?: Partial<LoadOptions>): Promise<Config>;
  /** Loads `config` as the JSON file of a new directory. */
  loadJson(config: object, options?: Partial<LoadOptions>): Promise<Config>;
}

/** To be called once, at the top of a test file. */
export function configFiles(): ConfigFiles {
  let root = "";
  let count = 0;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), "rowhouse-config-"));
  });
  afterAll(() => rm(root, { recursive: true }));

  const directory: ConfigFiles["directory"] = async (files = {}) => {
    count += 1;
    const path = join(root, `d${count}`);
    await mkdir(path);
    for (const [name, content] of Object.entries(files)) {
      await writeFile(join(path, name), typeof content === "string" ? content : JSON.stringify(content));
    }
    return path;
  };
  const load: ConfigFiles["load"] = (cwd, options = {}) =>
    loadConfig({ cwd, env: {}, execArgv: [], ...options });
  return {
    directory,
    load,
    loadJson: async (config, options) => load(await directory({ "rowhouse.config.json": config }), options),
  };
}

/** The faults that `loading` rejects with, by path; throws if it ends otherwise. */
export async function faultsOf(loading: Promise<unknown>): Promise<Record<string, string>> {
  const error = await loading.then(
    () => new Error("it was accepted"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConfigError)) throw error;
  return Object.fromEntries(error.faults.map(({ path, message }) => [path, message]));
}
