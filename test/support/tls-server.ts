/** A PostgreSQL server that takes TLS, with a certificate for `localhost` and none for 127.0.0.1. */
import { chmod, chown, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { startEmbedded } from "../../src/embedded/server.ts";
import { type Authority, type Certified, createAuthority } from "./certificates.ts";

export interface TlsServer {
  /** Connects as superuser, without any TLS parameter. */
  readonly url: string;
  /**
   * Certificates of the authority that signed the server's certificate and of one that did not, and a client's certificate with
   * its key.
   */
  readonly files: {
    readonly ca: string;
    readonly otherCa: string;
    readonly cert: string;
    readonly key: string;
  };
  /** Replaces the rules of pg_hba.conf for connections over TCP; when it resolves, they apply to new connections. */
  admit(rules: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export async function startTlsServer(): Promise<TlsServer> {
  const root = await mkdtemp(join(tmpdir(), "rowhouse-tls-"));
  // The server's user and the test's read the authority's certificate as well.
  await chmod(root, 0o755);
  const server = await startEmbedded({ directory: join(root, "server"), persistent: true });
  const data = join(server.directory, "data");
  const [authority, other] = await Promise.all([createAuthority("ours"), createAuthority("another")]);
  const [own, client] = await Promise.all([
    authority.issue("localhost", ["localhost"]),
    authority.issue("postgres"),
  ]);
  const admin = new Client({ connectionString: server.url });
  await admin.connect();
  await install(data, own, authority);
  await admin.query("alter system set ssl_ca_file = 'ca.crt'");
  await admin.query("alter system set ssl = on");
  const files = await clientFiles(root, { authority, other, client });
  const admit = async (rules: readonly string[]): Promise<void> => {
    await writeFile(join(data, "pg_hba.conf"), rules.map((rule) => `${rule}\n`).join(""));
    const { rows } = await admin.query("select pg_conf_load_time()::text as at");
    await admin.query("select pg_reload_conf()");
    // Backends get the new rules once the postmaster has reloaded them, because it forwards the signal.
    for (;;) {
      const now = (await admin.query("select pg_conf_load_time()::text as at")).rows;
      if (now[0].at !== rows[0].at) return;
    }
  };
  await admit(["host all all 127.0.0.1/32 scram-sha-256", "host all all ::1/128 scram-sha-256"]);
  return {
    url: server.url,
    files,
    admit,
    close: async () => {
      await admin.end();
      await server.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** The server's own files are readable by its user only. */
async function install(data: string, own: Certified, authority: Authority): Promise<void> {
  const { uid, gid } = await stat(data);
  for (const [name, text] of [
    ["server.crt", own.cert],
    ["server.key", own.key],
    ["ca.crt", authority.cert],
  ] as const) {
    const path = join(data, name);
    await writeFile(path, text, { mode: 0o600 });
    await chown(path, uid, gid);
  }
}

async function clientFiles(
  root: string,
  { authority, other, client }: { authority: Authority; other: Authority; client: Certified },
): Promise<TlsServer["files"]> {
  const texts = { ca: authority.cert, otherCa: other.cert, cert: client.cert, key: client.key };
  const written = await Promise.all(
    Object.entries(texts).map(async ([name, text]) => {
      const path = join(root, `${name}.pem`);
      await writeFile(path, text);
      return [name, path] as const;
    }),
  );
  const [ca = "", otherCa = "", cert = "", key = ""] = written.map(([, path]) => path);
  return { ca, otherCa, cert, key };
}
