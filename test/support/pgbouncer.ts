/** PgBouncer in front of the run's server. Not every machine has it; tests that need it are skipped without it. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll } from "vitest";

/** The environment variable `PGBOUNCER` overrides the installed one. */
function find(): string | null {
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  const candidates = [process.env["PGBOUNCER"], ...directories.map((each) => join(each, "pgbouncer"))];
  return candidates.find((each) => each !== undefined && each !== "" && existsSync(each)) ?? null;
}

const program = find();

const children = new Set<ChildProcess>();
// Registered before a file's own hooks, and so the last to run: a failing test leaves none behind.
afterAll(() => {
  for (const each of children) each.kill("SIGKILL");
});

function versionOf(path: string): readonly [major: number, minor: number] {
  const [, major = "0", minor = "0"] =
    /PgBouncer (\d+)\.(\d+)/.exec(execFileSync(path, ["--version"], { encoding: "utf8" })) ?? [];
  return [Number(major), Number(minor)];
}

/** Null if it is not installed. */
export const pgbouncerVersion = program === null ? null : versionOf(program);

/** Whether it can rewrite the names of prepared statements. */
const knowsStatements = pgbouncerVersion !== null && (pgbouncerVersion[0] > 1 || pgbouncerVersion[1] >= 21);

export interface PgBouncerOptions {
  readonly mode?: "transaction" | "session";
  /** The number of server connections for each user and database. */
  readonly backends?: number;
  /** Further settings of PgBouncer. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

export interface PgBouncer {
  /** `url`, redirected through the pooler. */
  through(url: string): string;
  close(): Promise<void>;
}

/** A user other than root, as which PgBouncer refuses to run. */
function user(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const idOf = (flag: string, name: string): number =>
    Number(execFileSync("id", [flag, name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  for (const name of ["postgres", "nobody"]) {
    try {
      return { uid: idOf("-u", name), gid: idOf("-g", name) };
    } catch {
      // No such user on this system.
    }
  }
  throw new Error("there is no user to run PgBouncer as");
}

/** Part of its socket's name, in a directory that only this test uses. */
const port = 6432;

const ini = (settings: Readonly<Record<string, string | number>>): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}`)
    .join("\n");

/** Starts one for the users of `urls`, all on one server, and waits until it accepts connections. */
export async function startPgBouncer(
  urls: readonly string[],
  { mode = "transaction", backends = 3, settings = {} }: PgBouncerOptions = {},
): Promise<PgBouncer> {
  if (program === null) throw new Error("PgBouncer is not installed");
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-bouncer-"));
  await chmod(directory, 0o755);
  const { uid, gid } = user();
  const servers = urls.map((url) => new URL(url));
  const [server] = servers;
  if (server === undefined) throw new Error("no URL of a server");
  const users = servers.map(
    (url) => `"${decodeURIComponent(url.username)}" "${decodeURIComponent(url.password)}"`,
  );
  const files = {
    "users.txt": [...new Set(users)].join("\n"),
    "pgbouncer.ini": `[databases]
* = host=${server.hostname} port=${server.port}
[pgbouncer]
${ini({
  unix_socket_dir: directory,
  listen_port: port,
  auth_type: "trust",
  auth_file: join(directory, "users.txt"),
  pool_mode: mode,
  default_pool_size: backends,
  max_client_conn: 500,
  ...(knowsStatements ? { max_prepared_statements: 100 } : {}),
  ...settings,
})}
`,
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(directory, name);
    await writeFile(path, text, { mode: 0o600 });
    if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
  }
  if (uid !== undefined && gid !== undefined) await chown(directory, uid, gid);
  const child = spawn(program, [join(directory, "pgbouncer.ini")], {
    uid,
    gid,
    stdio: ["ignore", "ignore", "pipe"],
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  await running(child);
  return {
    through(url) {
      const own = new URL(url);
      own.hostname = "localhost";
      own.port = String(port);
      own.searchParams.set("host", directory);
      return own.href;
    },
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit");
        child.kill("SIGQUIT");
        await ended;
      }
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Resolves when it reports that it is up; its log is read for as long as it lives. */
async function running(child: ChildProcess): Promise<void> {
  const { stderr } = child;
  if (stderr === null) throw new Error("its log is not read");
  const lines: string[] = [];
  const up = await new Promise<boolean>((resolve) => {
    createInterface({ input: stderr }).on("line", (line) => {
      if (lines.length < 100) lines.push(line);
      if (line.includes("process up")) resolve(true);
    });
    child.once("error", (error) => {
      lines.push(error.message);
      resolve(false);
    });
    child.once("exit", () => resolve(false));
  });
  if (!up) throw new Error(`PgBouncer did not start:\n${lines.join("\n")}`);
}
