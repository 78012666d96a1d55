/** A server arm: its process, its answers and its costs under load. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { Agent, request } from "undici";
import { z } from "zod";
import { messagesOf, startArm } from "./bench.ts";
import type { BenchDatabase, BenchTenant } from "./database.ts";
import { cpuSeconds } from "./processes.ts";
import type { Figures } from "./report.ts";
import { type RowhouseOptions, spawnRowhouse } from "./rowhouse.ts";

export interface ServerArm {
  /** The URL of its GraphQL endpoint. */
  readonly url: string;
  /** Empty if the arm has no admin API. */
  readonly adminUrl: string;
  readonly child: ChildProcess;
  readonly alive: boolean;
  /** Returns the answer's text; rejects if there is no answer. */
  ask(tenant: string, query: string): Promise<string>;
  /** Returns JSON from the admin API. */
  admin(path: string, body?: object): Promise<unknown>;
  stop(): Promise<void>;
}

export interface StockOptions {
  /** The most instances that it keeps, evicting the least recently used; by default all. */
  readonly instances?: number;
  /** Whether each request sets its tenant's role, as it has to where tenants are kept apart by it; by default it does. */
  readonly roles?: boolean;
  readonly execArgv?: readonly string[];
}

/** Stock PostGraphile on its own Node server. */
export async function startStock(
  database: BenchDatabase,
  tenants: readonly BenchTenant[],
  { instances = 0, roles = true, execArgv = [] }: StockOptions = {},
): Promise<ServerArm> {
  // Without the tenants' roles, only the owner of their tables may read them.
  const url = roles ? database.url : database.ownerUrl;
  const child = startArm("stock", execArgv);
  child.send({ input: { arm: roles ? "stock" : "stock without roles", url, tenants, instances } });
  return answering(child);
}

/** A bare Node server that knows each operation's SQL. */
export async function startFloor(database: BenchDatabase): Promise<ServerArm> {
  const child = startArm("floor");
  child.send({ input: { arm: "floor", url: database.url, tenants: database.tenants } });
  return answering(child);
}

/** The arm once it has said where it listens. */
async function answering(child: ChildProcess): Promise<ServerArm> {
  const [message]: unknown[] = await once(child, "message");
  const { url } = z.object({ url: z.string() }).parse(message);
  return new HttpArm(child, url, "");
}

/** Rowhouse as its command line serves it. */
export async function startRowhouse(options: RowhouseOptions): Promise<ServerArm> {
  const { child, publicUrl, adminUrl } = await spawnRowhouse(options);
  return new HttpArm(child, `${publicUrl}/graphql`, adminUrl);
}

class HttpArm implements ServerArm {
  readonly child: ChildProcess;
  readonly url: string;
  readonly adminUrl: string;
  readonly #agent = new Agent({ connections: 64, bodyTimeout: 120_000, headersTimeout: 120_000 });

  constructor(child: ChildProcess, url: string, adminUrl: string) {
    this.child = child;
    this.url = url;
    this.adminUrl = adminUrl;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async ask(tenant: string, query: string): Promise<string> {
    const headers = {
      "content-type": "application/json",
      accept: "application/json",
      "x-tenant": tenant,
    };
    const { body } = await request(this.url, {
      method: "POST",
      headers,
      body: JSON.stringify({ query }),
      dispatcher: this.#agent,
    });
    return body.text();
  }

  async admin(path: string, body?: object): Promise<unknown> {
    const sent =
      body === undefined
        ? {}
        : {
            method: "POST" as const,
            headers: { "content-type": "application/json" },
            body: JSON.stringify(body),
          };
    const answer = await request(new URL(path, this.adminUrl), { ...sent, dispatcher: this.#agent });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`${path}: ${answer.statusCode} ${text}`);
    return path === "/metrics" ? text : JSON.parse(text);
  }

  async stop(): Promise<void> {
    if (this.alive) {
      const exit = once(this.child, "exit");
      this.child.kill("SIGKILL");
      await exit;
    }
    await this.#agent.destroy();
  }
}

export interface Load {
  readonly server: ServerArm;
  readonly database: BenchDatabase;
  /** The tenants' ids. */
  readonly tenants: readonly string[];
  readonly query: string;
}

const measured = z.object({
  requests: z.number(),
  requestsPerSecond: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  cpuMicros: z.number(),
  failed: z.number(),
});

/**
 * Sends the same query for the tenants in turn over 8 connections, for `durationMs` after a warm-up of a third of that. The load
 * runs in a process of its own. Throws if any request fails.
 */
export async function measureLoad(
  { server, database, tenants, query }: Load,
  durationMs: number,
): Promise<Figures> {
  const child = startArm("load");
  child.send({
    input: { url: server.url, tenants, query, connections: 8, warmMs: durationMs / 3, durationMs },
  });
  // Listens from the start: on a busy machine, a short load may end before the CPU used so far has been read.
  const messages = messagesOf(child, `the load (${query})`);
  const used = async (): Promise<[number, number]> => [
    await cpuSeconds(server.child.pid),
    await database.cpuSeconds(),
  ];
  await messages.next();
  const before = await used();
  const message = await messages.next();
  const after = await used();
  const { requests, requestsPerSecond, p50Ms, p99Ms, cpuMicros, failed } = measured.parse(message);
  if (failed > 0) throw new Error(`${failed} requests failed: ${query}`);
  return {
    "req/s": requestsPerSecond,
    "p50 ms": p50Ms,
    "p99 ms": p99Ms,
    "server CPU µs": ((after[0] - before[0]) * 1e6) / requests,
    "postgres CPU µs": ((after[1] - before[1]) * 1e6) / requests,
    "load CPU µs": cpuMicros,
    requests,
  };
}

/** The sum of a metric's samples over all matching labels. */
export async function metricOf(server: ServerArm, name: string, labels = ""): Promise<number> {
  const text = z.string().parse(await server.admin("/metrics"));
  return text
    .split("\n")
    .filter((line) => new RegExp(`^rowhouse_${name}(\\{| )`).test(line) && line.includes(labels))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
