import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { access, chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Embedded, type EmbeddedOptions, startEmbedded } from "../../src/embedded/server.ts";
import type { Observation } from "../../src/observability/observation.ts";

let parent: string;
let directory: string;
const servers: Embedded[] = [];
const seen: Observation[] = [];
const isRoot = process.getuid?.() === 0;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "rowhouse-embedded-"));
  // If PostgreSQL runs as another user, that user must be able to enter it.
  await chmod(parent, 0o755);
  directory = join(parent, "pg");
  seen.length = 0;
});

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
  await rm(parent, { recursive: true, force: true });
});

async function start(options: Partial<EmbeddedOptions> = {}): Promise<Embedded> {
  const observe = (observation: Observation): void => void seen.push(observation);
  const server = await startEmbedded({ directory, persistent: false, observe, ...options });
  servers.push(server);
  return server;
}

async function ask(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

const postmaster = async (): Promise<number> =>
  Number((await readFile(join(directory, "data", "postmaster.pid"), "utf8")).split("\n")[0]);

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** An orphan stays a zombie until process 1 reaps it, which in a container may take a while: it no longer runs. */
function isRunning(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

test("it serves only the loopback interface, only with the password, and only its user can read the password file", async () => {
  const { url } = await start();
  expect(await ask(url, "show listen_addresses")).toEqual([{ listen_addresses: "127.0.0.1" }]);
  const wrong = new URL(url);
  wrong.password = "wrong";
  await expect(ask(wrong.href, "select 1")).rejects.toMatchObject({ code: "28P01" });
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === "IPv4" && !each.internal);
  if (outside !== undefined) {
    const elsewhere = new URL(url);
    elsewhere.hostname = outside.address;
    await expect(ask(elsewhere.href, "select 1")).rejects.toMatchObject({ code: "ECONNREFUSED" });
  }
  expect((await stat(join(directory, "data", "rowhouse.password"))).mode & 0o077).toBe(0);
});

test("close cuts open connections, waits for the server to end, and deletes the data of a server that is not persistent", async () => {
  const server = await start();
  const pid = await postmaster();
  const sleeping = ask(server.url, "select pg_sleep(60)").catch((error: unknown) => error);
  await expect
    .poll(() =>
      ask(
        server.url,
        "select from pg_stat_activity where query like '%pg_sleep(60)' and pid <> pg_backend_pid()",
      ),
    )
    .toHaveLength(1);
  await Promise.all([server.close(), server.close()]);
  expect(await sleeping).toMatchObject({ code: "57P01" });
  expect(isRunning(pid)).toBe(false);
  expect(await exists(directory)).toBe(false);
  expect(seen).toEqual([]);
});

test("a persistent server keeps its data and its password, and is durable", async () => {
  const first = await start({ persistent: true });
  await ask(first.url, "create table kept as select 'still here' as word");
  expect(await ask(first.url, "show fsync")).toEqual([{ fsync: "on" }]);
  await first.close();
  const second = await start({ persistent: true });
  expect(new URL(second.url).password).toBe(new URL(first.url).password);
  expect(await ask(second.url, "select word from kept")).toEqual([{ word: "still here" }]);
});

test("a second server on a directory in use is refused, naming the process to stop; the first keeps serving", async () => {
  const first = await start();
  const pid = await postmaster();
  await expect(start()).rejects.toMatchObject({
    code: "EMBEDDED_UNAVAILABLE",
    message: expect.stringContaining(`process ${pid}`),
  });
  expect(await ask(first.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("if two servers create one directory at once, one serves and the other fails with EMBEDDED_UNAVAILABLE", async () => {
  const outcomes = await Promise.allSettled([start(), start()]);
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  expect(outcomes.find(({ status }) => status === "rejected")).toMatchObject({
    reason: { code: "EMBEDDED_UNAVAILABLE" },
  });
  expect((await readdir(directory)).filter((name) => name.startsWith("init-"))).toEqual([]);
});

test.each([
  ["of a process that is gone", () => spawnSync(process.execPath, ["--version"]).pid],
  ["whose process id another program has now", () => process.pid],
])("a lock file %s does not block a start", async (_case, pid) => {
  await (await start({ persistent: true })).close();
  const lock = [pid(), join(directory, "data"), 0, 5432, directory, "127.0.0.1", "  1 1", "ready"];
  await writeFile(join(directory, "data", "postmaster.pid"), `${lock.join("\n")}\n`);
  const { url } = await start({ persistent: true });
  expect(await ask(url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("a port that is in use is named in the error", async () => {
  const first = await start();
  const port = Number(new URL(first.url).port);
  await expect(start({ directory: join(parent, "other"), port })).rejects.toMatchObject({
    code: "EMBEDDED_UNAVAILABLE",
    message: expect.stringContaining(`port ${port} is in use`),
  });
});

test("if its owner is killed the server ends too, and the next owner starts at once on the same data", async () => {
  const owner: ChildProcess = spawn(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      `import { startEmbedded } from ${JSON.stringify(new URL("../../src/embedded/server.ts", import.meta.url).href)};
       const { url } = await startEmbedded({ directory: process.argv[1], persistent: true });
       console.log(url);
       setInterval(() => {}, 60_000);`,
      directory,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  if (owner.stdout === null) throw new Error("no output");
  const [url] = await once(createInterface({ input: owner.stdout }), "line");
  await ask(url, "create table kept as select 'still here' as word");
  const pid = await postmaster();
  owner.kill("SIGKILL");
  const next = await start({ persistent: true });
  // It removes its lock file a moment before it exits.
  await expect.poll(() => isRunning(pid)).toBe(false);
  expect(await ask(next.url, "select word from kept")).toEqual([{ word: "still here" }]);
});

test("a server that ends by itself is reported", async () => {
  const server = await start();
  process.kill(await postmaster(), "SIGQUIT");
  await expect.poll(() => seen.map(({ kind }) => kind), { timeout: 10_000 }).toContain("database.lost");
  await server.close();
});

test("the directory is created with its parents, at the configured place", async () => {
  const nested = join(parent, ".rowhouse", "nested", "pg");
  const server = await start({ directory: nested });
  expect(server.directory).toBe(nested);
  expect((await stat(nested)).mode & 0o077).toBe(0);
  expect(seen).toEqual([]);
});

test("a directory that cannot be created is refused, and the error says what to do", async () => {
  await writeFile(directory, "");
  await expect(start({ directory: join(directory, "below", "it") })).rejects.toMatchObject({
    code: "EMBEDDED_UNAVAILABLE",
    message: expect.stringMatching(/cannot be created: .*DATABASE_URL/),
  });
});

test("a path that is not a directory is refused", async () => {
  await writeFile(directory, "");
  await expect(start()).rejects.toMatchObject({ code: "EMBEDDED_UNAVAILABLE" });
});

test.skipIf(!isRoot)(
  "as root, below a directory that PostgreSQL's user cannot enter, the data is kept at a fixed place elsewhere, with a warning",
  async () => {
    const closed = join(parent, "closed");
    await mkdir(closed, { mode: 0o700 });
    const options = { directory: join(closed, "pg"), persistent: true };
    const first = await start(options);
    expect(first.directory.startsWith(tmpdir())).toBe(true);
    expect(first.directory).not.toBe(options.directory);
    expect(seen).toEqual([
      {
        kind: "config.warning",
        path: "embedded PostgreSQL",
        message: expect.stringContaining(first.directory),
      },
    ]);
    await ask(first.url, "create table kept as select 'still here' as word");
    await first.close();
    const second = await start(options);
    expect(await ask(second.url, "select word from kept")).toEqual([{ word: "still here" }]);
    await second.close();
    await rm(first.directory, { recursive: true });
  },
);
