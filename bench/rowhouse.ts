/** The host as a user starts it: `rowhouse serve` on a config file, in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { z } from "zod";
import { ownChild } from "./bench.ts";
import type { BenchDatabase, BenchTenant } from "./database.ts";

export interface RowhouseOptions {
  readonly database: BenchDatabase;
  readonly tenants: readonly BenchTenant[];
  /** What the host connects with, by default as the hosts' role. */
  readonly url?: string;
  readonly poolSize?: number;
  /** Further configuration. `database.installControl` makes the control schema, which the guard needs. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly execArgv?: readonly string[];
  /** Another checkout of the project whose host is started instead of this one's. */
  readonly host?: string | undefined;
}

const ownCheckout = fileURLToPath(new URL("../", import.meta.url));
/** The command line of a checkout, by default of this one. */
const cliOf = (host = ownCheckout): string => join(resolve(host), "bin", "rowhouse.js");

/** Variables of the bench's environment that would configure the host. */
const foreign = /^(DATABASE_URL|PORT|ROWHOUSE_|GRAPHILE_|NODE_OPTIONS|PG)/;

const listening = z.object({ kind: z.literal("host.listening"), name: z.string(), url: z.string() });

/** Starts a host and waits until it is ready; throws its last output if it ends instead. */
export async function spawnRowhouse(
  options: RowhouseOptions,
): Promise<{ child: ChildProcess; publicUrl: string; adminUrl: string }> {
  const { database, tenants, url = database.url, poolSize = 4, config = {}, execArgv = [], host } = options;
  const contents = {
    databases: { main: { url, install: false, poolSize } },
    tenants,
    listen: { port: 0 },
    admin: { port: 0 },
    ...config,
  };
  return withConfig(contents, async (file) => {
    const child = spawnCli([...execArgv, cliOf(host), "serve", "--config", file]);
    return { child, ...(await urlsOf(child)) };
  });
}

/**
 * Installs the control schema with the command line of the checkout at `host`, by default of this one, because versions differ in
 * it. The host's role may then read and call everything in that schema, which covers the needs of any version.
 */
export async function installByCli(database: BenchDatabase, host: string | undefined): Promise<void> {
  const contents = { databases: { main: { url: database.ownerUrl } }, tenants: [] };
  await withConfig(contents, async (file) => {
    const child = spawnCli([cliOf(host), "install", "--config", file]);
    const said: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on("line", (line) => said.push(line));
    }
    const [code]: unknown[] = await once(child, "close");
    if (code !== 0) throw new Error(`rowhouse install ended with ${String(code)}:\n${said.join("\n")}`);
  });
  const owner = new pg.Client({ connectionString: database.ownerUrl });
  await owner.connect();
  await owner.query(`
    grant usage on schema rowhouse to bench_host;
    grant select on all tables in schema rowhouse to bench_host;
    grant execute on all functions in schema rowhouse to bench_host`);
  await owner.end();
}

/** Calls `work` with a config file that exists until `work` has ended. */
async function withConfig<Result>(
  contents: object,
  work: (file: string) => Promise<Result>,
): Promise<Result> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-bench-host-"));
  try {
    const file = join(directory, "host.json");
    await writeFile(file, JSON.stringify(contents));
    return await work(file);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function spawnCli(args: readonly string[]): ChildProcess {
  return ownChild(
    spawn(process.execPath, args, {
      // Not the config's directory, which is deleted soon: a process whose directory is gone cannot start threads.
      cwd: tmpdir(),
      env: {
        ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))),
        NODE_ENV: "production",
      },
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
}

function urlsOf(child: ChildProcess): Promise<{ publicUrl: string; adminUrl: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ publicUrl: string; adminUrl: string }>();
  const said: string[] = [];
  const urls = new Map<string, string>();
  const hear = (line: string): void => {
    said.push(line);
    if (said.length > 40) said.shift();
    if (!line.includes('"host.listening"')) return;
    const { name, url } = listening.parse(JSON.parse(line));
    urls.set(name, url);
    const [publicUrl, adminUrl] = [urls.get("public"), urls.get("admin")];
    if (publicUrl !== undefined && adminUrl !== undefined) resolve({ publicUrl, adminUrl });
  };
  // Read to the end: a full pipe would stop the host.
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on("line", hear);
  }
  child.once("exit", (code, signal) => {
    reject(new Error(`the host ended with ${code ?? signal}:\n${said.join("\n")}`));
  });
  return promise;
}
