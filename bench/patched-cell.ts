/** A cell with some of the patches for speed left out, and what its thread spends on requests. */
import { readdir, readFile } from "node:fs/promises";
import { Cell } from "../src/fleet/cell/cell.ts";
import { cellId, tenantId } from "../src/shared/kernel/ids.ts";
import { installedVersion } from "../src/shared/kernel/installed.ts";
import { statesOf } from "../src/shared/kernel/patch-policy.ts";
import type { RequestTask } from "../src/shared/protocol/messages.ts";
import { type PatchName, patchReports } from "../workers/graphile/patches.ts";
import { specOf } from "./blueprint.ts";
import type { BenchDatabase, BenchTenant } from "./database.ts";

/** Requests that run at once. */
const concurrency = 8;

const threads = async (): Promise<readonly string[]> => readdir("/proc/self/task");

/** Nanoseconds of CPU that a thread of this process has used. */
async function cpuNs(thread: string): Promise<number> {
  const [ran = ""] = (await readFile(`/proc/self/task/${thread}/schedstat`, "utf8")).split(" ");
  return Number(ran);
}

export interface Slice {
  readonly requests: number;
  readonly cpuUs: number;
  readonly ms: number;
}

export class PatchedCell {
  readonly #cell: Cell;
  readonly #thread: string;
  readonly #tenants: readonly BenchTenant[];
  #next = 0;

  private constructor(cell: Cell, thread: string, tenants: readonly BenchTenant[]) {
    this.#cell = cell;
    this.#thread = thread;
    this.#tenants = tenants;
  }

  /** Starts a thread with every patch but `without`, and builds an instance for the tenants of `database`. */
  static async open(
    id: number,
    database: BenchDatabase,
    without: readonly PatchName[],
  ): Promise<PatchedCell> {
    const before = new Set(await threads());
    const ready = Promise.withResolvers<void>();
    const applied = statesOf(patchReports(installedVersion));
    const cell = new Cell({
      id: cellId(id),
      setup: {
        applicationName: "rowhouse:bench",
        databases: { main: { url: database.url, poolSize: concurrency, poolReserve: 0 } },
        preset: null,
        requestHeaders: [],
        graphiql: false,
        production: true,
        resultBytes: 32 * 2 ** 20,
        operations: { fields: 1_000, depth: 16, variables: 20_000, variablesDepth: 64, introspection: true },
        statementTimeoutMs: 30_000,
        patches: { ...applied, ...Object.fromEntries(without.map((name) => [name, "plain" as const])) },
      },
      heapMb: 256,
      hardLimitMb: 512,
      v8LimitMb: 1_536,
      youngMb: 16,
      observe: () => undefined,
      onReady: ready.resolve,
      onGone: () => undefined,
    });
    await ready.promise;
    const [first] = database.tenants;
    if (first === undefined) throw new Error("no tenants");
    await cell.build(1, { ...specOf("pooled", first.schemas, 1), shape: "core" });
    const added = (await threads()).filter((thread) => !before.has(thread));
    const used = await Promise.all(added.map(async (thread) => ({ thread, ns: await cpuNs(thread) })));
    const [own] = used.toSorted((a, b) => b.ns - a.ns);
    if (own === undefined) throw new Error("the cell has no thread");
    return new PatchedCell(cell, own.thread, database.tenants);
  }

  /** The answer to `query` from the first tenant. */
  async ask(query: string): Promise<string> {
    return this.#ask(query, this.#tenants[0]);
  }

  /** Sends `query` for about `durationMs`, each time for the next tenant. */
  async slice(query: string, durationMs: number): Promise<Slice> {
    const startedMs = performance.now();
    const startedNs = await cpuNs(this.#thread);
    let requests = 0;
    const one = async (): Promise<void> => {
      while (performance.now() - startedMs < durationMs) {
        this.#next = (this.#next + 1) % this.#tenants.length;
        await this.#ask(query, this.#tenants[this.#next]);
        requests += 1;
      }
    };
    await Promise.all(Array.from({ length: concurrency }, one));
    const cpuUs = ((await cpuNs(this.#thread)) - startedNs) / 1_000;
    return { requests, cpuUs, ms: performance.now() - startedMs };
  }

  async close(): Promise<void> {
    await this.#cell.terminate("shutdown");
  }

  async #ask(query: string, tenant: BenchTenant | undefined): Promise<string> {
    if (tenant === undefined) throw new Error("no tenants");
    const id = tenantId(tenant.id);
    const slot = this.#cell.acquireSlot();
    const task: RequestTask = {
      kind: "request",
      slot,
      instance: 1,
      binding: JSON.stringify({
        tenant: id,
        searchPath: [tenant.schemas.app, "public"],
        statementTag: tenant.id,
        roles: [tenant.roles.anonymous],
        prepares: false,
        notifies: false,
        guard: null,
      }),
      settings: { role: tenant.roles.anonymous },
      signing: null,
      method: "POST",
      path: "/graphql",
      basePath: "",
      query: "",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ query }),
    };
    try {
      const answer = await this.#cell.request(task, id);
      if (answer.kind !== "text") throw new Error(`an answer of ${answer.kind}`);
      return answer.body;
    } finally {
      this.#cell.releaseSlot(slot);
    }
  }
}
