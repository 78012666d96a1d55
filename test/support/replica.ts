/** A primary and a standby that streams from it, on servers of their own, because tests stop and promote them. */
import { execFile } from "node:child_process";
import { appendFile, chmod, chown, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { type Embedded, startEmbedded } from "../../src/embedded/server.ts";

const run = promisify(execFile);

export interface Replicated {
  readonly primary: Embedded;
  readonly standby: Embedded;
  /** Resolves when the standby has replayed what the primary has written so far. */
  caughtUp(): Promise<void>;
  /** Promotes the standby; the primary is not told. */
  promote(): Promise<void>;
  close(): Promise<void>;
}

export async function startReplicated(): Promise<Replicated> {
  const root = await mkdtemp(join(tmpdir(), "rowhouse-replica-"));
  // The servers' user must be able to traverse it.
  await chmod(root, 0o755);
  const settings = { persistent: true, maxConnections: 100 } as const;
  const primary = await startEmbedded({ ...settings, directory: join(root, "primary") });
  const standby = await standbyOf(primary, join(root, "standby")).catch(async (error: unknown) => {
    await primary.close();
    throw error;
  });
  const replayed = async (): Promise<boolean> => {
    const [{ at }] = await ask(primary, "select pg_current_wal_flush_lsn()::text as at");
    const [{ there }] = await ask(standby, "select pg_last_wal_replay_lsn() >= $1::pg_lsn as there", [at]);
    return there === true;
  };
  return {
    primary,
    standby,
    caughtUp: async () => {
      while (!(await replayed())) await new Promise((resolve) => setTimeout(resolve, 20));
    },
    promote: async () => {
      await ask(standby, "select pg_promote(true, 60)");
    },
    close: async () => {
      await Promise.all([standby.close(), primary.close()]);
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** Does by hand what pg_basebackup does, which the embedded server lacks. */
async function standbyOf(primary: Embedded, directory: string): Promise<Embedded> {
  const from = join(primary.directory, "data");
  const data = join(directory, "data");
  const { uid, gid } = await stat(from);
  const client = await connected(primary);
  await client.query("checkpoint; select pg_backup_start('standby', true)");
  await run("mkdir", ["-m", "700", directory]);
  await run("cp", ["-a", from, data]);
  const { rows } = await client.query("select labelfile from pg_backup_stop(false)");
  await client.end();
  await rm(join(data, "postmaster.pid"), { force: true });
  await writeFile(join(data, "backup_label"), rows[0].labelfile);
  await writeFile(join(data, "standby.signal"), "");
  const { hostname, port, password } = new URL(primary.url);
  await appendFile(
    join(data, "postgresql.auto.conf"),
    `\nprimary_conninfo = 'host=${hostname} port=${port} user=postgres password=${password}'\nwal_retrieve_retry_interval = '200ms'\n`,
  );
  for (const path of [directory, join(data, "backup_label"), join(data, "standby.signal")]) {
    await chown(path, uid, gid);
  }
  return startEmbedded({ directory, persistent: true, maxConnections: 100 });
}

/** Runs `sql` on that server as superuser, in its database `postgres`. */
export async function ask(
  server: Embedded,
  sql: string,
  values: unknown[] = [],
  // biome-ignore lint/suspicious/noExplicitAny: an answer is what the query made it.
): Promise<any[]> {
  const client = await connected(server);
  try {
    return (await client.query(sql, values)).rows;
  } finally {
    await client.end();
  }
}

async function connected({ url }: Embedded): Promise<Client> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return client;
}
