/** Observations and the fleet's state as Prometheus metrics, in a registry of their own. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { unreachable } from "../shared/kernel/errors.ts";
import type { PatchState } from "../shared/kernel/patch-policy.ts";
import type { CellPhase } from "../shared/kernel/phase.ts";
import type { DroppedLines } from "./dropped.ts";
import type { EvictionReason, Observation, Observe, TerminationReason } from "./observation.ts";
import type { FleetSnapshot, ListenerSnapshot } from "./status.ts";

export interface Metrics {
  readonly observe: Observe;
  readonly contentType: string;
  /** The exposition; takes one snapshot of the fleet. */
  text(): Promise<string>;
}

/** Every label value is there from the start, at 0: a rate over a series that appears with its first event misses it. */
const terminationReasons = {
  evicted: 0,
  idle: 0,
  "over-budget": 0,
  stalled: 0,
  replaced: 0,
  "build-timeout": 0,
  crashed: 0,
  flushed: 0,
  shutdown: 0,
  "start-failed": 0,
} satisfies Record<TerminationReason, 0>;
const evictionReasons = {
  capacity: 0,
  idle: 0,
  requested: 0,
  flushed: 0,
  stale: 0,
  "cell-lost": 0,
  shutdown: 0,
} satisfies Record<EvictionReason, 0>;
const cellPhases = {
  starting: 0,
  spare: 0,
  serving: 0,
  condemned: 0,
  draining: 0,
  terminating: 0,
  gone: 0,
} satisfies Record<CellPhase, 0>;
const patchStates = { applied: 0, plain: 0, refused: 0 } satisfies Record<PatchState, 0>;

const requestSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const buildSeconds = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const bytesPerMb = 1024 * 1024;
/** Requests until a counter and a histogram hear of them: 0.15 µs each in a row, and a microsecond amid all else that a request runs. */
const maxUntold = 500;

const unheard: ListenerSnapshot = {
  connections: { idle: 0, receiving: 0, working: 0 },
  refused: { address: 0, full: 0 },
};

/** Metrics whose gauges are read from `snapshot` and `listener` when they are scraped; null while there is no fleet, or no listener. */
export function createMetrics(
  snapshot: () => FleetSnapshot | null,
  droppedLines: () => readonly DroppedLines[] = () => [],
  listener: () => ListenerSnapshot | null = () => null,
): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const counter = <Label extends string>(
    name: string,
    help: string,
    ...labelNames: Label[]
  ): Counter<Label> => new Counter({ name: `rowhouse_${name}`, help, labelNames, registers });
  const gauge = <Label extends string>(name: string, help: string, ...labelNames: Label[]): Gauge<Label> =>
    new Gauge({ name: `rowhouse_${name}`, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[]): Histogram =>
    new Histogram({ name: `rowhouse_${name}`, help, buckets, registers });

  const requests = counter("requests_total", "Requests answered, by status.", "status");
  const requestTime = histogram("request_seconds", "From a request's head to its last byte.", requestSeconds);
  const terminations = counter("cell_terminations_total", "Cells whose thread ended.", "reason");
  const builds = counter("builds_total", "Instances built, or not.", "result");
  const buildTime = histogram("build_seconds", "Duration of builds that succeeded.", buildSeconds);
  const evictions = counter("evictions_total", "Instances evicted.", "reason");
  const decisions = counter("decisions_total", "Tenants decided.", "kind");
  const schemaReads = counter(
    "schema_reads_total",
    "Reads of revisions or shapes outside a tenant's own transaction.",
  );
  const noticeReads = counter("notice_reads_total", "Reads of revisions to look into notifications.");
  const guardChecks = counter("guard_checks_total", "Transactions that asserted their revisions.");
  const guardFailures = counter("guard_failures_total", "Requests whose schema had changed.");
  const guardRetries = counter("guard_retries_total", "Requests run again after a failed guard.");
  const guardExhausted = counter("guard_exhausted_total", "Requests given up after the last attempt.");

  const quarantines = counter(
    "quarantines_total",
    "Tenants that were given an instance of their own for a while.",
  );
  const dropped = counter("log_dropped_total", "Log lines that were not written.", "level", "reason");

  const cells = gauge("cells", "Cells, by phase.", "phase");
  const quarantined = gauge(
    "quarantined_tenants",
    "Tenants served apart, as they take more than their share.",
  );
  const requestsQueued = gauge("requests_queued", "Requests that wait for their tenant's turn in a cell.");
  const cellHeap = gauge("cell_heap_bytes", "Heap in use, with external memory.", "cell");
  const instances = gauge("instances", "Instances held.", "kind");
  const buildQueue = gauge("build_queue", "Builds waiting.");
  const httpConnections = gauge("http_connections", "Connections to the public listener.", "state");
  const httpRefused = counter(
    "http_refused_total",
    "Connections and requests turned away for want of room.",
    "reason",
  );
  const connections = gauge("pg_pool_connections", "Connections of all cells to PostgreSQL.", "state");
  const readOnlyDatabases = gauge(
    "database_read_only",
    "1 where PostgreSQL refuses writes: a standby, or default_transaction_read_only.",
    "database",
  );
  const reserve = gauge("pg_pool_reserve_connections", "Connections of all cells beyond poolSize.");

  const patches = gauge(
    "patches",
    "1 for the state of each patch into a dependency: applied; plain, the dependency's own way is taken; refused.",
    "name",
    "state",
  );

  for (const reason of Object.keys(terminationReasons)) terminations.inc({ reason }, 0);
  for (const reason of Object.keys(evictionReasons)) evictions.inc({ reason }, 0);
  for (const result of ["ok", "failed", "timeout"]) builds.inc({ result }, 0);
  for (const kind of ["pooled", "dedicated"]) decisions.inc({ kind }, 0);

  /** Requests of clients behind a proxy that had too many under way. */
  let refusedRequests = 0;
  /** Of each request its status and its seconds. */
  const untold: number[] = [];
  const tellRequests = (): void => {
    for (let at = 0; at < untold.length; at += 2) {
      requests.inc({ status: untold[at] ?? 0 });
      requestTime.observe(untold[at + 1] ?? 0);
    }
    untold.length = 0;
  };

  const observe = (observation: Observation): void => {
    switch (observation.kind) {
      case "request.done":
        untold.push(observation.status, observation.durationMs / 1000);
        if (untold.length >= 2 * maxUntold) tellRequests();
        if (observation.code === "ADDRESS_BUSY") refusedRequests += 1;
        break;
      case "cell.terminated":
        terminations.inc({ reason: observation.reason });
        break;
      case "build.done":
        builds.inc({ result: "ok" });
        buildTime.observe(observation.buildMs / 1000);
        break;
      case "build.failed":
        builds.inc({ result: observation.code === "BUILD_TIMEOUT" ? "timeout" : "failed" });
        break;
      case "instance.evicted":
        evictions.inc({ reason: observation.reason });
        break;
      case "tenant.quarantined":
        quarantines.inc();
        break;
      case "tenant.decided":
        decisions.inc({ kind: observation.pooled ? "pooled" : "dedicated" });
        break;
      case "schema.read":
        schemaReads.inc();
        break;
      case "notices.read":
        noticeReads.inc();
        break;
      case "guard.checked":
        guardChecks.inc(observation.count);
        break;
      case "guard.failed":
        guardFailures.inc();
        break;
      case "guard.exhausted":
        guardExhausted.inc();
        break;
      case "request.retried":
        if (observation.reason === "schema-changed") guardRetries.inc();
        break;
      case "patch.state": {
        const { name } = observation;
        for (const state of Object.keys(patchStates)) patches.set({ name, state }, 0);
        patches.set({ name, state: observation.state }, 1);
        break;
      }
      case "host.phase":
      case "host.listening":
      case "host.plan":
      case "host.error":
      case "host.warning":
      case "log.dropped":
      case "config.warning":
      case "http.error":
      case "admin.refused":
      case "request.failed":
      case "tenant.unsafe":
      case "database.unsafe":
      case "tenant.changed":
      case "tenant.migrated":
      case "tenant.released":
      case "cell.started":
      case "cell.condemned":
      case "host.config":
      case "cell.error":
      case "cell.log":
      case "build.started":
      case "instance.measured":
      case "database.lost":
      case "database.listening":
      case "database.pooled":
      case "control.installed":
      case "look.found":
      case "look.failed":
        break;
      default:
        unreachable(observation);
    }
  };

  const readFleet = (fleet: FleetSnapshot | null): void => {
    for (const phase of Object.keys(cellPhases)) cells.set({ phase }, 0);
    for (const kind of ["pooled", "dedicated"]) instances.set({ kind }, 0);
    // Cells come and go, and their ids never return.
    cellHeap.reset();
    for (const cell of fleet?.cells ?? []) {
      cells.inc({ phase: cell.phase });
      cellHeap.set({ cell: cell.id }, cell.heapUsedMb * bytesPerMb);
      for (const { kind } of cell.instances) instances.inc({ kind });
    }
    quarantined.set(
      fleet?.cells.flatMap((cell) => cell.instances).filter((each) => each.quarantined !== null).length ?? 0,
    );
    requestsQueued.set(fleet?.cells.reduce((sum, { queued }) => sum + queued, 0) ?? 0);
    buildQueue.set(fleet?.builds.queued ?? 0);
    const none = { total: 0, idle: 0, waiting: 0, reserve: 0 };
    const { total, idle, waiting, reserve: beyond } = fleet?.connections ?? none;
    connections.set({ state: "active" }, total - idle);
    connections.set({ state: "idle" }, idle);
    connections.set({ state: "waiting" }, waiting);
    reserve.set(beyond);
    for (const [database, readOnly] of Object.entries(fleet?.readOnly ?? {})) {
      readOnlyDatabases.set({ database }, readOnly ? 1 : 0);
    }
  };

  const readListener = ({ connections: held, refused }: ListenerSnapshot): void => {
    for (const [state, count] of Object.entries(held)) httpConnections.set({ state }, count);
    // The listener counts for itself: under a flood nobody is told of each.
    httpRefused.reset();
    httpRefused.inc({ reason: "address" }, refused.address + refusedRequests);
    httpRefused.inc({ reason: "full" }, refused.full);
  };

  return {
    observe,
    contentType: registry.contentType,
    text: () => {
      tellRequests();
      readFleet(snapshot());
      dropped.reset();
      for (const { level, reason, count } of droppedLines()) dropped.inc({ level, reason }, count);
      readListener(listener() ?? unheard);
      return registry.metrics();
    },
  };
}
