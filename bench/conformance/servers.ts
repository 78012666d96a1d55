/** PostgreSQL for a run: the embedded server, or an installed one of another version. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, chown, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { startEmbedded } from "../../src/embedded/server.ts";
import { ownChild } from "../bench.ts";

const run = promisify(execFile);

export interface Server {
  readonly url: string;
  close(): Promise<void>;
}

const embedded = "18";

/** Starts a server of `version`; throws if that is neither the embedded one's nor installed where Debian puts it. */
export async function startServer(version: string): Promise<Server> {
  const directory = await mkdtemp(join(tmpdir(), `rowhouse-postgres-${version}-`));
  if (version !== embedded) return startInstalled(version, directory);
  const server = await startEmbedded({ directory, persistent: false });
  return {
    url: server.url,
    async close() {
      await server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function startInstalled(version: string, directory: string): Promise<Server> {
  const bin = `/usr/lib/postgresql/${version}/bin`;
  await access(join(bin, "postgres")).catch(() => {
    throw new Error(`there is no PostgreSQL ${version} in ${bin}; ${embedded} comes with the embedded one`);
  });
  const user = await serverUser();
  if (user.uid !== undefined && user.gid !== undefined) await chown(directory, user.uid, user.gid);
  const data = join(directory, "data");
  await run(
    join(bin, "initdb"),
    ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
    user,
  );
  const port = await freePort();
  const settings = [
    `port=${port}`,
    "listen_addresses=127.0.0.1",
    `unix_socket_directories=${directory}`,
    "fsync=off",
    "max_connections=100",
  ];
  const child = ownChild(
    spawn(join(bin, "postgres"), ["-D", data, ...settings.flatMap((each) => ["-c", each])], {
      ...user,
      stdio: "ignore",
    }),
  );
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  await accepting(url);
  return {
    url,
    async close() {
      child.kill("SIGINT");
      await once(child, "exit");
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The user to run the server as, because PostgreSQL refuses to run as root. */
async function serverUser(): Promise<{ readonly uid?: number; readonly gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "postgres"])).stdout)),
  );
  return { ...(uid === undefined ? {} : { uid }), ...(gid === undefined ? {} : { gid }) };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function accepting(url: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const client = new pg.Client({ connectionString: url });
    // If a run ends early, the server cuts this connection; the original error must stay visible.
    client.on("error", () => {});
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (attempt > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
