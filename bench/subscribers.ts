/** A host with subscribers, and the process that plays them. */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { z } from "zod";
import { messagesOf, startArm } from "./bench.ts";
import { type BenchDatabase, type BenchTenant, benchDatabase } from "./database.ts";
import { cpuSeconds, memoryOf } from "./processes.ts";
import { metricOf, type ServerArm, startRowhouse } from "./server.ts";
import { statusOf } from "./status.ts";

export type Transport = "websocket" | "sse";

/** Twenty rows. */
export const liveQuery =
  "query @live { allT1Items(orderBy: PRIMARY_KEY_DESC, first: 20) { nodes { name mood } } }";

/** The same to a host, but shared with nobody. */
export const ownQuery = (index: number): string => `${liveQuery} # ${index}`;

const tableOf = ({ schemas }: BenchTenant): string => `${pg.escapeIdentifier(schemas.app)}.t1_item`;

/** A database whose tenants' first tables are watched. */
export async function watchedDatabase(tenants: number): Promise<BenchDatabase> {
  const database = await benchDatabase(tenants, 3);
  await database.installControl();
  const owner = new pg.Client({ connectionString: database.ownerUrl });
  await owner.connect();
  for (const tenant of database.tenants) await owner.query("select rowhouse.watch($1)", [tableOf(tenant)]);
  await owner.end();
  return database;
}

/** A host that may have so many subscribers, and whose front can be told to collect its garbage. */
export function startWatching(
  database: BenchDatabase,
  subscribers: number,
  realtime = true,
): Promise<ServerArm> {
  const most = subscribers + 100;
  return startRowhouse({
    database,
    tenants: database.tenants,
    config: {
      pooling: true,
      limits: { connections: 2 * most, addressConnections: 2 * most },
      realtime: realtime && { connections: most, tenantConnections: most, tenantSubscriptions: most },
    },
    execArgv: ["--expose-gc", "--import", new URL("./arms/collect-on-signal.ts", import.meta.url).href],
  });
}

export interface Held {
  readonly frontKb: number;
  readonly cellKb: number;
  readonly rssKb: number;
}

/** What the host holds once garbage is gone: it is told to collect it until that frees no more. */
export async function heldBy(server: ServerArm): Promise<Held> {
  let frontKb = Number.POSITIVE_INFINITY;
  for (;;) {
    server.child.kill("SIGUSR2");
    // Its collections have ended when it answers again.
    await sleep(200);
    const now = (await nodeMetric(server, "nodejs_heap_size_used_bytes")) / 1024;
    if (now > frontKb * 0.98) break;
    frontKb = now;
  }
  const { cells } = await statusOf(server);
  const cellMb = cells.reduce((sum, { heapUsedMb }) => sum + heapUsedMb, 0);
  const { rssMb } = await memoryOf(server.child.pid);
  return { frontKb, cellKb: cellMb * 1024, rssKb: rssMb * 1024 };
}

async function nodeMetric(server: ServerArm, name: string): Promise<number> {
  const text = z.string().parse(await server.admin("/metrics"));
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

const answer = z.object({ ms: z.number() });

export class Subscribers {
  readonly #child: ChildProcess;
  readonly #messages: { next(): Promise<unknown> };
  #changes = 0;

  constructor(database: BenchDatabase) {
    this.#child = startArm("subscribers");
    this.#messages = messagesOf(this.#child, "the subscribers");
    this.#child.send({ input: { databaseUrl: database.ownerUrl } });
  }

  /** Opens a connection for each query and waits for its first result. */
  async open(
    server: ServerArm,
    transport: Transport,
    connections: readonly { readonly tenant: string; readonly query: string }[],
  ): Promise<void> {
    await this.#say({ kind: "open", url: server.url, transport, connections });
    const open = await metricOf(server, "realtime_connections", transport);
    if (open < connections.length) throw new Error(`${open} of ${connections.length} connections are open`);
  }

  /** Commits a change of a tenant; returns the milliseconds until its last connection has the result. */
  async change(tenant: BenchTenant): Promise<number> {
    this.#changes += 1;
    const label = `${tenant.id} item change ${this.#changes}.`;
    const sql = `insert into ${tableOf(tenant)} (name) values ('${label}')`;
    return this.#say({ kind: "change", sql, label, tenant: tenant.id });
  }

  /** CPU in µs that the host takes for each delivery of `rounds` changes, and the milliseconds until the last, of each. */
  async deliver(
    server: ServerArm,
    { tenant, connections, rounds }: { tenant: BenchTenant; connections: number; rounds: number },
  ): Promise<{ readonly micros: number; readonly lastMs: readonly number[] }> {
    const before = await cpuSeconds(server.child.pid);
    const lastMs: number[] = [];
    for (let round = 0; round < rounds; round += 1) lastMs.push(await this.change(tenant));
    const used = (await cpuSeconds(server.child.pid)) - before;
    return { micros: (used * 1e6) / (rounds * connections), lastMs };
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }

  async #say(command: object): Promise<number> {
    this.#child.send(command);
    return answer.parse(await this.#messages.next()).ms;
  }
}
