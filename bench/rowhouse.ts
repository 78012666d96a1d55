/** The host as a user starts it: `rowhouse serve` on a config file, in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { ownChild } from "./bench.ts";
import type { BenchDatabase, BenchTenant } from "./database.ts";

export interface RowhouseOptions {
  readonly database: BenchDatabase;
  readonly tenants: readonly BenchTenant[];
  readonly poolSize?: number;
  /** More of the configuration. The control schema is made by `database.installControl`, which the guard needs. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly execArgv?: readonly string[];
}

const cli = fileURLToPath(new URL("../bin/rowhouse.js", import.meta.url));

/** What of the bench's environment would configure the host. */
const foreign = /^(DATABASE_URL|PORT|ROWHOUSE_|GRAPHILE_|NODE_OPTIONS|PG)/;

const listening = z.object({ kind: z.literal("host.listening"), name: z.string(), url: z.string() });

/** Started and ready; throws what it last said where it ends instead. */
export async function spawnRowhouse(
  options: RowhouseOptions,
): Promise<{ child: ChildProcess; publicUrl: string; adminUrl: string }> {
  const { database, tenants, poolSize = 4, config = {}, execArgv = [] } = options;
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-bench-host-"));
  const file = join(directory, "host.json");
  await writeFile(
    file,
    JSON.stringify({
      databases: { main: { url: database.url, install: false, poolSize } },
      tenants,
      listen: { port: 0 },
      admin: { port: 0 },
      ...config,
    }),
  );
  const child = ownChild(
    spawn(process.execPath, [...execArgv, cli, "serve", "--config", file], {
      // Not the directory that is about to go: no thread starts in a process whose directory is gone.
      cwd: tmpdir(),
      env: {
        ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))),
        NODE_ENV: "production",
      },
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
  try {
    return { child, ...(await urlsOf(child)) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
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
