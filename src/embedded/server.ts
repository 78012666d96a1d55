/** A real PostgreSQL server that belongs to this process: created, started and stopped with it. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { access, chown, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { promisify } from "node:util";
import type { Observe } from "../observability/observation.ts";
import { pause } from "../shared/kernel/duration.ts";
import { messageOf } from "../shared/kernel/errors.ts";
import { type EmbeddedPlace, findPlace, type RunAs, unavailable } from "./location.ts";

const run = promisify(execFile);

export interface EmbeddedOptions {
  /** Holds everything of the server; created where it does not exist. */
  readonly directory: string;
  /** Asked of the operating system where it is left out. */
  readonly port?: number;
  /** Keep the data at `close`. Otherwise it is deleted, and nothing is ever synced to disk. */
  readonly persistent: boolean;
  readonly maxConnections?: number;
  /** The directory of the server's programs, instead of those that the npm package brings. */
  readonly programs?: string;
  readonly observe?: Observe;
}

export interface Embedded {
  /** Of the superuser, to the database `postgres`; on 127.0.0.1 only. */
  readonly url: string;
  readonly directory: string;
  /** Stops the server (open connections are cut) and waits for its end. */
  close(): Promise<void>;
}

/**
 * Closing stdin stops the server: so does, therefore, whatever ends this process, SIGKILL included. The watcher is
 * forked twice, because a postmaster takes the exit of a child that it did not start for a crash.
 */
const launch = `exec 3<&0 </dev/null; ( ( read -r _ <&3; kill -INT $$ ) >/dev/null 2>&1 & ); exec "$@" 3<&-`;

const passwordFile = "rowhouse.password";
const fastStopMs = 15_000;
const readyMs = 60_000;

/**
 * Starts the server under `directory`, creating its data the first time. Throws `EMBEDDED_UNAVAILABLE`, saying what
 * to do, where it cannot run here or another process already runs it.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const place = await findPlace(options.directory, options.programs);
  for (const message of place.notices) {
    options.observe?.({ kind: "config.warning", path: "embedded PostgreSQL", message });
  }
  const data = join(place.directory, "data");
  await create(place, options.persistent);
  await awaitVacant(data);
  const password = await readFile(join(data, passwordFile), "utf8").catch((error: unknown) => {
    throw unavailable(`${data} has no ${passwordFile}; remove ${place.directory} to start over`, error);
  });
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort());
    const server = await start(place, data, port, options);
    if (server === "port-taken") {
      // Somebody else took the free port in between.
      if (options.port === undefined && attempt < 5) continue;
      throw unavailable(`port ${port} is in use`);
    }
    return {
      url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
      directory: place.directory,
      close: closing(server, place.directory, options),
    };
  }
}

/** Runs initdb aside and renames the result, so that an interrupted one leaves no half of a data directory. */
async function create(place: EmbeddedPlace, persistent: boolean): Promise<void> {
  const { directory, initdb, runAs } = place;
  const data = join(directory, "data");
  if (await exists(join(data, "PG_VERSION"))) return;
  const aside = await mkdtemp(join(directory, "init-"));
  try {
    const secret = join(aside, passwordFile);
    await writeFile(secret, randomBytes(24).toString("base64url"), { mode: 0o600 });
    await own(aside, runAs);
    await own(secret, runAs);
    const flags = ["--username=postgres", "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256"];
    if (!persistent) flags.push("--no-sync");
    await run(initdb, [...flags, `--pwfile=${secret}`, `--pgdata=${join(aside, "data")}`], {
      ...runAs,
      cwd: directory,
      env: serverEnvironment(),
    });
    await rename(secret, join(aside, "data", passwordFile));
    await rename(join(aside, "data"), data);
  } catch (error) {
    // Somebody else's may be in place by now: then the start says who runs it.
    if (await exists(join(data, "PG_VERSION"))) return;
    throw unavailable(`initdb failed in ${directory} (it must be empty): ${messageOf(error)}`, error);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Waits for a server that is just stopping, throws for one that runs, and clears away what a dead one left. */
async function awaitVacant(data: string): Promise<void> {
  const lockFile = join(data, "postmaster.pid");
  // A host that was killed stops its server through the watcher, a moment later.
  const deadline = performance.now() + fastStopMs;
  const patience = performance.now() + 500;
  while (true) {
    const lines = (await readFile(lockFile, "utf8").catch(() => "")).split("\n");
    const pid = Number(lines[0]);
    if (!Number.isInteger(pid) || pid <= 0) return;
    if (!(await isPostgres(pid))) return rm(lockFile, { force: true });
    if (performance.now() > (lines[7]?.trim() === "stopping" ? deadline : patience)) {
      throw unavailable(
        `the server in ${data} is already running (process ${pid}): stop the other Rowhouse, or start this one in another working directory`,
      );
    }
    await pause(50);
  }
}

/** Whether `pid` is a PostgreSQL server: after a restart of a container the number may be anybody's. */
async function isPostgres(pid: number): Promise<boolean> {
  const command =
    process.platform === "linux"
      ? await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")
      : await run("ps", ["-p", String(pid), "-o", "comm="]).then(
          ({ stdout }) => stdout,
          () => "",
        );
  const [program = ""] = command.split("\0", 1);
  return /\b(?:postgres|postmaster)(?:[:\s]|$)/.test(program);
}

async function start(
  place: EmbeddedPlace,
  data: string,
  port: number,
  options: EmbeddedOptions,
): Promise<ChildProcess | "port-taken"> {
  const flags = Object.entries(settingsOf(place, port, options)).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`,
  ]);
  const server = spawn("/bin/sh", ["-c", launch, "sh", place.postgres, "-D", data, ...flags], {
    ...place.runAs,
    cwd: data,
    env: serverEnvironment(),
    stdio: ["pipe", "ignore", "pipe"],
    // Its own session: Ctrl-C in a terminal is for the host, which still needs the server while it drains.
    detached: true,
  });
  server.stdin.on("error", () => {});
  const { outcome, lines } = await outcomeOf(server);
  if (outcome === "ready") return server;
  const text = lines.join("\n");
  if (outcome === "late") await stop(server);
  if (/could not bind|could not create any TCP\/IP sockets/.test(text)) return "port-taken";
  if (text.includes("incompatible with server")) {
    throw unavailable(`${data} was created by another major version; move it away to start over`);
  }
  throw unavailable(`the server did not start:\n${text}`);
}

function settingsOf(
  place: EmbeddedPlace,
  port: number,
  { persistent, maxConnections = 100 }: EmbeddedOptions,
): Record<string, string | number> {
  return {
    listen_addresses: "127.0.0.1",
    port,
    // A socket's path has room for 107 bytes.
    unix_socket_directories: Buffer.byteLength(place.directory) < 80 ? place.directory : "",
    max_connections: maxConnections,
    log_destination: "stderr",
    logging_collector: "off",
    // Short-lived data: 0.3 s less per database and no wait for disks. Nothing of it would survive a crash. Compiling pays for long
    // queries alone; the npm package's programs cannot, others may.
    ...(persistent
      ? {}
      : {
          fsync: "off",
          synchronous_commit: "off",
          full_page_writes: "off",
          jit: "off",
          wal_level: "minimal",
          max_wal_senders: 0,
        }),
  };
}

interface Start {
  readonly outcome: "ready" | "ended" | "late";
  /** The last that the server has said. */
  readonly lines: readonly string[];
}

/** What becomes of a server that was started; its output is read for as long as it lives. */
async function outcomeOf(server: ChildProcess & { readonly stderr: Readable }): Promise<Start> {
  const lines: string[] = [];
  const outcome = await new Promise<"ready" | "ended" | "late">((resolve) => {
    const timer = setTimeout(() => resolve("late"), readyMs);
    const settle = (value: "ready" | "ended"): void => {
      clearTimeout(timer);
      resolve(value);
    };
    // Read for as long as the server lives: a full pipe would stop it.
    createInterface({ input: server.stderr }).on("line", (line) => {
      lines.push(line);
      if (lines.length > 30) lines.shift();
      if (/database system is ready to accept (?:read-only )?connections/.test(line)) settle("ready");
    });
    server.once("error", (error) => {
      lines.push(messageOf(error));
      settle("ended");
    });
    server.once("close", () => settle("ended"));
  });
  return { outcome, lines };
}

function closing(server: ChildProcess, directory: string, options: EmbeddedOptions): () => Promise<void> {
  let closed: Promise<void> | undefined;
  server.once("exit", (code, signal) => {
    server.stdin?.end();
    if (closed !== undefined) return;
    const error = unavailable(`the server ended unexpectedly (${signal ?? code})`);
    options.observe?.({ kind: "database.lost", database: "embedded", error });
  });
  return () => {
    closed ??= stop(server).then(async () => {
      if (!options.persistent) await rm(directory, { recursive: true, force: true });
    });
    return closed;
  };
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, "exit");
  server.stdin?.end();
  // Fast shutdown through the watcher; immediate shutdown (recovery at the next start) where that takes too long.
  const timer = setTimeout(() => server.kill("SIGQUIT"), fastStopMs);
  await ended.finally(() => clearTimeout(timer));
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw unavailable("no free port");
  return address.port;
}

/** Messages that this file looks for are English; PG* variables of the caller are for another server. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", TZ: process.env["TZ"] ?? "UTC" };
}

async function own(path: string, { uid, gid }: RunAs): Promise<void> {
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
