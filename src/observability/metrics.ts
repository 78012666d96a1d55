/** Exposes observations and the fleet's state as Prometheus metrics, in a separate registry. */
import { type Counter, collectDefaultMetrics, type Histogram, Registry } from "prom-client";
import type { PatchState } from "../shared/kernel/patch-policy.ts";
import type { CellPhase } from "../shared/kernel/phase.ts";
import type { DroppedLines } from "./dropped.ts";
import { type Makers, makersFor } from "./metrics-makers.ts";
import type {
  EvictionReason,
  Observation,
  Observe,
  RealtimeObservation,
  TerminationReason,
} from "./observation.ts";
import {
  isRealtime,
  realtimeTally,
  type SubscriptionCounts,
  subscriptionGauges,
} from "./realtime-metrics.ts";
import type { FleetSnapshot, ListenerSnapshot } from "./status.ts";

export interface Metrics {
  readonly observe: Observe;
  readonly contentType: string;
  /** The metrics in Prometheus's text format; takes one snapshot of the fleet. */
  text(): Promise<string>;
}

/** Every label value exists from the start, at 0: a rate over a series that appears with its first event misses that event. */
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
/** Finished requests that are added to the metrics in a row, sooner if somebody reads them. */
const maxWaiting = 500;
const bytesPerMb = 1024 * 1024;

const unheard: ListenerSnapshot = {
  connections: { idle: 0, receiving: 0, working: 0 },
  refused: { address: 0, full: 0 },
};

/** Creates metrics whose gauges read `snapshot` and `listener` at each scrape; those return null while there is no fleet or no listener. */
export function createMetrics(
  snapshot: () => FleetSnapshot | null,
  droppedLines: () => readonly DroppedLines[] = () => [],
  listener: () => ListenerSnapshot | null = () => null,
  subscriptions: () => SubscriptionCounts | null = () => null,
): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const make = makersFor(registry);
  const counters = eventCounters(make);
  const fleet = fleetGauges(make);
  const held = listenerGauges(make);
  const requests = new RequestTally(make);
  const countRealtime = realtimeTally(make);
  const readSubscriptions = subscriptionGauges(make);
  const dropped = make.counter("log_dropped_total", "Log lines dropped.", "level", "reason");

  return {
    observe: (observation) => {
      if (observation.kind === "request.done") requests.add(observation);
      else if (isRealtime(observation)) countRealtime(observation);
      else count(counters, observation);
    },
    contentType: registry.contentType,
    text: () => {
      requests.flush();
      readFleet(fleet, snapshot());
      readSubscriptions(subscriptions());
      dropped.reset();
      for (const { level, reason, count } of droppedLines()) dropped.inc({ level, reason }, count);
      readListener(held, listener() ?? unheard, requests.refused);
      return registry.metrics();
    },
  };
}

type RequestDone = Extract<Observation, { kind: "request.done" }>;

/** Adds finished requests to the metrics, many in a row: one by one takes the front 1 % of its time for `{ __typename }`. */
class RequestTally {
  readonly #count: Counter<"status">;
  readonly #seconds: Histogram;
  /** For each request not yet added, its status and its duration. */
  readonly #waiting: number[] = [];
  /** Requests refused because their client, behind a proxy, had too many in flight. */
  refused = 0;

  constructor({ counter, histogram }: Makers) {
    this.#count = counter("requests_total", "Requests answered, by status.", "status");
    this.#seconds = histogram(
      "request_seconds",
      "Time from the request's head to the last byte of the response.",
      requestSeconds,
    );
  }

  add({ status, durationMs, code }: RequestDone): void {
    this.#waiting.push(status, durationMs / 1000);
    if (this.#waiting.length >= 2 * maxWaiting) this.flush();
    if (code === "ADDRESS_BUSY") this.refused += 1;
  }

  flush(): void {
    const waiting = this.#waiting;
    for (let at = 0; at < waiting.length; at += 2) {
      this.#count.inc({ status: waiting[at] ?? 0 });
      this.#seconds.observe(waiting[at + 1] ?? 0);
    }
    waiting.length = 0;
  }
}

type EventCounters = ReturnType<typeof eventCounters>;

/** Counters of events other than requests. */
function eventCounters({ counter, gauge, histogram }: Makers) {
  const counters = {
    terminations: counter("cell_terminations_total", "Cells that ended, by reason.", "reason"),
    builds: counter("builds_total", "Builds, by result.", "result"),
    buildTime: histogram("build_seconds", "Duration of builds that succeeded.", buildSeconds),
    evictions: counter("evictions_total", "Instances evicted, by reason.", "reason"),
    decisions: counter(
      "decisions_total",
      "Decisions whether a tenant shares an instance or gets a dedicated one.",
      "kind",
    ),
    schemaReads: counter("schema_reads_total", "Reads of tenants' shapes from the catalogue."),
    noticeReads: counter("notice_reads_total", "Reads of revisions to verify notifications."),
    guardChecks: counter("guard_checks_total", "Transactions that checked their revisions."),
    renewals: counter("pg_renewals_total", "Connections of cells that were renewed.", "reason"),
    guardFailures: counter("guard_failures_total", "Attempts of requests that found their schema changed."),
    guardRetries: counter("guard_retries_total", "Further attempts after a failed guard."),
    guardExhausted: counter(
      "guard_exhausted_total",
      "Requests that failed because the schema changed during every attempt.",
    ),
    roleFindings: counter(
      "role_findings_total",
      "Reports of roles or schemas that are not safe, by the code of a finding.",
      "code",
    ),
    quarantines: counter(
      "quarantines_total",
      "Times that a tenant was quarantined in an instance of its own.",
    ),
    patches: gauge(
      "patches",
      "1 for the current state of each patch to a dependency: applied, plain (the dependency's own code runs) or refused.",
      "name",
      "state",
    ),
  };
  for (const reason of Object.keys(terminationReasons)) counters.terminations.inc({ reason }, 0);
  for (const reason of Object.keys(evictionReasons)) counters.evictions.inc({ reason }, 0);
  for (const result of ["ok", "failed", "timeout"]) counters.builds.inc({ result }, 0);
  for (const kind of ["pooled", "dedicated"]) counters.decisions.inc({ kind }, 0);
  return counters;
}

/** Kinds that no metric counts. A kind that is neither here nor in `count` does not compile. */
type Uncounted =
  | "host.phase"
  | "host.listening"
  | "host.plan"
  | "host.error"
  | "host.warning"
  | "log.dropped"
  | "config.warning"
  | "http.error"
  | "admin.refused"
  | "request.failed"
  | "tenant.changed"
  | "tenant.migrated"
  | "tenant.released"
  | "cell.started"
  | "cell.condemned"
  | "host.config"
  | "cell.error"
  | "cell.log"
  | "build.started"
  | "instance.measured"
  | "database.lost"
  | "database.listening"
  | "database.pooled"
  | "database.statements"
  | "control.installed"
  | "look.found"
  | "look.failed";

function count(
  counters: EventCounters,
  observation: Exclude<Observation, RequestDone | RealtimeObservation>,
): void {
  switch (observation.kind) {
    case "cell.terminated":
      counters.terminations.inc({ reason: observation.reason });
      break;
    case "build.done":
      counters.builds.inc({ result: "ok" });
      counters.buildTime.observe(observation.buildMs / 1000);
      break;
    case "build.failed":
      counters.builds.inc({ result: observation.code === "BUILD_TIMEOUT" ? "timeout" : "failed" });
      break;
    case "instance.evicted":
      counters.evictions.inc({ reason: observation.reason });
      break;
    case "tenant.unsafe":
    case "database.unsafe":
      for (const code of observation.codes) counters.roleFindings.inc({ code });
      break;
    case "tenant.quarantined":
      counters.quarantines.inc();
      break;
    case "tenant.decided":
      counters.decisions.inc({ kind: observation.pooled ? "pooled" : "dedicated" });
      break;
    case "schema.read":
      counters.schemaReads.inc();
      break;
    case "notices.read":
      counters.noticeReads.inc();
      break;
    case "guard.checked":
      counters.guardChecks.inc(observation.count);
      break;
    case "connections.renewed":
      for (const [reason, count] of Object.entries(observation.counts))
        counters.renewals.inc({ reason }, count);
      break;
    case "guard.failed":
      counters.guardFailures.inc();
      break;
    case "guard.exhausted":
      counters.guardExhausted.inc();
      break;
    case "request.retried":
      if (observation.reason === "schema-changed") counters.guardRetries.inc();
      break;
    case "patch.state": {
      const { name } = observation;
      for (const state of Object.keys(patchStates)) counters.patches.set({ name, state }, 0);
      counters.patches.set({ name, state: observation.state }, 1);
      break;
    }
    default:
      observation.kind satisfies Uncounted;
  }
}

type FleetGauges = ReturnType<typeof fleetGauges>;

function fleetGauges({ gauge }: Makers) {
  return {
    cells: gauge("cells", "Cells, by phase.", "phase"),
    quarantined: gauge(
      "quarantined_tenants",
      "Tenants in quarantine, each served by an instance of its own.",
    ),
    requestsQueued: gauge("requests_queued", "Requests waiting for their tenant's turn in a cell."),
    cellHeap: gauge("cell_heap_bytes", "Heap in use by the cell, including external memory.", "cell"),
    instances: gauge("instances", "Built instances, by kind.", "kind"),
    buildQueue: gauge("build_queue", "Builds waiting."),
    connections: gauge("pg_pool_connections", "Connections of all cells to PostgreSQL, by state.", "state"),
    readOnlyDatabases: gauge(
      "database_read_only",
      "1 if the database refuses writes (a standby, or default_transaction_read_only), else 0.",
      "database",
    ),
    reserve: gauge(
      "pg_pool_reserve_connections",
      "Connections of all cells beyond poolSize, from poolReserve.",
    ),
  };
}

function readFleet(gauges: FleetGauges, fleet: FleetSnapshot | null): void {
  const { cells, instances, cellHeap, connections } = gauges;
  for (const phase of Object.keys(cellPhases)) cells.set({ phase }, 0);
  for (const kind of ["pooled", "dedicated"]) instances.set({ kind }, 0);
  // Cells come and go, and ids are never reused.
  cellHeap.reset();
  for (const cell of fleet?.cells ?? []) {
    cells.inc({ phase: cell.phase });
    cellHeap.set({ cell: cell.id }, cell.heapUsedMb * bytesPerMb);
    for (const { kind } of cell.instances) instances.inc({ kind });
  }
  gauges.quarantined.set(
    fleet?.cells.flatMap((cell) => cell.instances).filter((each) => each.quarantined !== null).length ?? 0,
  );
  gauges.requestsQueued.set(fleet?.cells.reduce((sum, { queued }) => sum + queued, 0) ?? 0);
  gauges.buildQueue.set(fleet?.builds.queued ?? 0);
  const none = { total: 0, idle: 0, waiting: 0, reserve: 0 };
  const { total, idle, waiting, reserve } = fleet?.connections ?? none;
  connections.set({ state: "active" }, total - idle);
  connections.set({ state: "idle" }, idle);
  connections.set({ state: "waiting" }, waiting);
  gauges.reserve.set(reserve);
  for (const [database, readOnly] of Object.entries(fleet?.readOnly ?? {})) {
    gauges.readOnlyDatabases.set({ database }, readOnly ? 1 : 0);
  }
}

type ListenerGauges = ReturnType<typeof listenerGauges>;

function listenerGauges({ counter, gauge }: Makers) {
  return {
    connections: gauge("http_connections", "Connections to the public listener, by state.", "state"),
    refused: counter(
      "http_refused_total",
      "Connections and requests refused because a limit was reached.",
      "reason",
    ),
  };
}

/** `refusedRequests` were refused by the request handler, because their client had too many in flight; the listener counts its own. */
function readListener(
  gauges: ListenerGauges,
  { connections, refused }: ListenerSnapshot,
  refusedRequests: number,
): void {
  for (const [state, count] of Object.entries(connections)) gauges.connections.set({ state }, count);
  // The listener keeps its own counts: under a flood, refusals are not observed one by one.
  gauges.refused.reset();
  gauges.refused.inc({ reason: "address" }, refused.address + refusedRequests);
  gauges.refused.inc({ reason: "full" }, refused.full);
}
