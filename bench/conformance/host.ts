/** `rowhouse serve` in a process of its own, in development mode, so that errors are not masked. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { ownChild } from "../bench.ts";

export interface StartedHost {
  readonly publicUrl: string;
  readonly adminUrl: string;
  close(): Promise<void>;
}

const cli = fileURLToPath(new URL("../../bin/rowhouse.js", import.meta.url));
const foreign = /^(?:DATABASE_URL|PORT|ROWHOUSE_|GRAPHILE_|NODE_OPTIONS|NODE_ENV|PG)/;
const listening = z.object({ kind: z.literal("host.listening"), name: z.string(), url: z.string() });

export async function startHost(config: Readonly<Record<string, unknown>>): Promise<StartedHost> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-conformance-"));
  const file = join(directory, "host.json");
  const contents = {
    listen: { port: 0 },
    admin: { port: 0 },
    // The suite's documents run as superuser, except those about rights.
    roleSafety: { mode: "warn" },
    builds: { timeout: "5m" },
    // Some documents have more fields than the default limit allows.
    limits: { requestTimeout: "5m", fields: 10_000 },
    cells: { max: 2, heapMb: 512, memoryMb: 8_000 },
    ...config,
  };
  await writeFile(file, JSON.stringify(contents));
  const child = ownChild(
    spawn(process.execPath, [cli, "serve", "--config", file], {
      cwd: tmpdir(),
      env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))),
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
  const { promise, resolve, reject } = Promise.withResolvers<Omit<StartedHost, "close">>();
  const said: string[] = [];
  const urls = new Map<string, string>();
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on("line", (line) => {
      said.push(line);
      if (said.length > 40) said.shift();
      if (process.env["CONFORMANCE_LOG"] !== undefined) console.error(line);
      if (!line.includes('"host.listening"')) return;
      const { name, url } = listening.parse(JSON.parse(line));
      urls.set(name, url);
      const [publicUrl, adminUrl] = [urls.get("public"), urls.get("admin")];
      if (publicUrl !== undefined && adminUrl !== undefined) resolve({ publicUrl, adminUrl });
    });
  }
  const ended = once(child, "exit");
  void ended.then(() => reject(new Error(`the host ended:\n${said.join("\n")}`)));
  const started = await promise;
  return {
    ...started,
    async close() {
      child.kill("SIGTERM");
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}
