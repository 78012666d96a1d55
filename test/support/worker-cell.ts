/** A real cell that serves one instance of the tenant ada. */
import { specOf } from "../../bench/blueprint.ts";
import { Cell } from "../../src/fleet/cell/cell.ts";
import { cellId, tenantId } from "../../src/shared/kernel/ids.ts";
import type { Answer } from "../../src/shared/protocol/messages.ts";
import type { TestDatabase } from "./database.ts";
import { operationLimits } from "./operation-limits.ts";
import { patchStates } from "./patches.ts";
import { type Ask, Worker } from "./worker-instance.ts";

export interface WorkerCell {
  readonly cell: Cell;
  /** The thread's log so far. */
  readonly logged: readonly string[];
  /** The answer to a request of ada's in slot 0, whatever else that slot holds. */
  ask(query: string, more?: Partial<Ask>): Promise<Answer>;
  close(): Promise<void>;
}

export async function openCell(database: TestDatabase, preset: string): Promise<WorkerCell> {
  const logged: string[] = [];
  const ready = Promise.withResolvers<void>();
  const cell = new Cell({
    id: cellId(1),
    setup: {
      applicationName: "rowhouse:cell-test",
      databases: { main: { url: database.url, poolSize: 2, poolReserve: 0 } },
      preset,
      requestHeaders: [],
      graphiql: false,
      production: true,
      resultBytes: 1_000_000,
      operations: operationLimits,
      statementTimeoutMs: 120_000,
      patches: patchStates(),
    },
    heapMb: 256,
    hardLimitMb: 512,
    v8LimitMb: 1_536,
    youngMb: 16,
    observe: (observation) => {
      if (observation.kind === "cell.log") logged.push(observation.message);
    },
    onReady: ready.resolve,
    onGone: () => undefined,
  });
  await ready.promise;
  await cell.build(1, specOf("pooled", { app: "ada" }, 1));
  const worker = new Worker(database);
  return {
    cell,
    logged,
    ask: (query, more = {}) => {
      const ask = { tenant: "ada", query, settings: { role: "ada" }, ...more };
      const task = { ...worker.task(ask, worker.scope(ask)), instance: 1, settings: ask.settings };
      return cell.request(task, tenantId(ask.tenant));
    },
    close: () => cell.terminate("shutdown"),
  };
}
