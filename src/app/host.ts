/** The composition root: starts everything in order and closes it in reverse order. */
import { randomBytes } from "node:crypto";
import { Authenticator } from "../auth/authenticator.ts";
import { SessionDatabases } from "../auth/session-databases.ts";
import type { Config } from "../config/config.ts";
import { Databases } from "../control/databases.ts";
import { migrateTenant } from "../control/tenant-migration.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { type CapacityPlan, capacityOf, planCapacity } from "../fleet/policy/capacity.ts";
import { fleetSnapshot } from "../fleet/snapshot.ts";
import type { AdminOperations } from "../http/admin/contract.ts";
import type { Subscriptions } from "../http/public/subscriptions.ts";
import type { Listening } from "../http/server.ts";
import type { Logger } from "../observability/logger.ts";
import { createMetrics, type Metrics } from "../observability/metrics.ts";
import type { Observe } from "../observability/observation.ts";
import { type PatchStates, statesOf } from "../shared/kernel/patch-policy.ts";
import { type HostPhase, hostStep } from "../shared/kernel/phase.ts";
import { ConfigError } from "../validation/config-error.ts";
import { planCells, startFleet } from "./cells.ts";
import { type HostContext, Started } from "./context.ts";
import { clientBacklog, listenForClients, listenForOperators } from "./listeners.ts";
import { createOperations, createReports } from "./operations.ts";
import { patchFaults, readPatchReports } from "./patch-reports.ts";
import { createRequestHandler, type Welcome } from "./request-handler.ts";
import { openSubscriptions } from "./subscriptions.ts";
import { type OpenTenants, openTenants } from "./tenants.ts";

export interface HostOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  readonly welcome?: Welcome;
}

export interface Host {
  readonly publicUrl: string;
  readonly adminUrl: string;
  /** Forgets every decision and drains every instance, as POST /flush does, while requests continue. */
  flush(): Promise<void>;
  /** Stops accepting requests, drains for at most `cells.drainTimeout`, and ends everything that was started. */
  close(): Promise<void>;
}

/** Starts the host. If it cannot start, closes what had been started and throws a HostError with the reason. */
export async function startHost(options: HostOptions): Promise<Host> {
  const started = new Started();
  try {
    return await start(options, started);
  } catch (error) {
    await started.close();
    throw error;
  }
}

/** The phase of the host, readable also while it starts and ends. */
interface Live {
  readonly startedMs: number;
  phase: HostPhase;
  fleet: Fleet | null;
  listening: Listening | null;
  subscriptions: Subscriptions | null;
}

const notYetLive = (): Live => ({
  startedMs: performance.now(),
  phase: "starting",
  fleet: null,
  listening: null,
  subscriptions: null,
});

async function start({ config, version, log, welcome }: HostOptions, started: Started): Promise<Host> {
  const live = notYetLive();
  const metrics = metricsOf(live, log);
  const observe: Observe = (observation) => {
    log.observe(observation);
    metrics.observe(observation);
  };
  const enter = (next: HostPhase): void => {
    live.phase = hostStep(live.phase, next);
    observe({ kind: "host.phase", phase: live.phase, version });
  };
  enter("starting");
  observe({ kind: "host.config", file: config.file, envFiles: config.envFiles });

  // An impossible plan is reported before anything is connected to.
  planCapacity(capacityOf(config));
  const patches = await checkedPatches(observe);

  const applicationName = `rowhouse:${randomBytes(4).toString("hex")}`;
  const context: HostContext = { config, version, applicationName, observe, started };
  const databases = await openDatabases(context);
  const plan = await planCells(context, databases);
  const tenants = await openTenants(context, databases);
  const authenticator = openAuthenticator(context);
  const fleet = startFleet(context, {
    plan,
    databases,
    patches,
    refuse: (spec, error) => tenants.decisions.refuse(spec, error),
    recordPlugins: (spec, unknown) => tenants.decisions.recordPlugins(spec, unknown),
  });
  live.fleet = fleet;

  const operations = operationsOf(context, { databases, plan, tenants, fleet }, live);
  const admin = await listenForOperators(context, operations, metrics);
  const served = { config, ...tenants, authenticator, fleet, observe, welcome };
  const handle = createRequestHandler(served);
  const backlog = clientBacklog(config);
  live.subscriptions = openSubscriptions(context, { ...served, databases, handle, backlog });
  const forClients = { handle, backlog, subscriptions: live.subscriptions, phase: () => live.phase };
  const listening = await listenForClients(context, forClients);
  live.listening = listening;
  enter("ready");

  return {
    publicUrl: listening.url,
    adminUrl: admin.url,
    flush: async () => {
      await operations.flush();
    },
    close: async () => {
      enter("draining");
      await started.close();
      enter("closed");
    },
  };
}

/** The states of the patches to dependencies; throws `CONFIG_INVALID` if a safety patch cannot be applied. */
async function checkedPatches(observe: Observe): Promise<PatchStates> {
  const reports = await readPatchReports();
  for (const report of reports) observe({ kind: "patch.state", ...report });
  const faults = patchFaults(reports);
  if (faults.length > 0) throw new ConfigError(faults);
  return statesOf(reports);
}

/** Metrics that accept observations from the start; their gauges read whatever parts exist by then. */
function metricsOf(live: Live, log: Logger): Metrics {
  return createMetrics(
    () => (live.fleet === null ? null : fleetSnapshot(live.fleet)),
    () => log.dropped.all,
    () => live.listening?.snapshot() ?? null,
    () => live.subscriptions?.counts() ?? null,
  );
}

async function openDatabases({ config, applicationName, observe, started }: HostContext): Promise<Databases> {
  const { guard, tenants } = config;
  const databases = await Databases.open({
    databases: config.databases,
    guard,
    applicationName,
    observe,
    tenantTable: tenants.kind === "table" ? tenants.database : null,
    realtime: config.realtime !== null,
  });
  started.add(() => databases.close());
  return databases;
}

function openAuthenticator({ config, applicationName, observe, started }: HostContext): Authenticator {
  const sessions = new SessionDatabases({ databases: config.databases, applicationName, observe });
  started.add(() => sessions.close());
  const authenticator = new Authenticator({ sessions: (name) => sessions.get(name) });
  started.add(() => authenticator.close());
  return authenticator;
}

interface Parts {
  readonly databases: Databases;
  readonly plan: CapacityPlan;
  readonly tenants: OpenTenants;
  readonly fleet: Fleet;
}

/** Everything that the admin listener offers. */
function operationsOf(
  { config, version, observe }: HostContext,
  { databases, plan, tenants, fleet }: Parts,
  live: Live,
): AdminOperations {
  const { source, decisions, watch } = tenants;
  const operations = createOperations({
    source,
    decisions,
    fleet,
    changes: (tenant) => watch.changes(tenant.database),
    observe,
    migrate: (tenant, request) => migrateTenant(databases.get(tenant.database).migrations, tenant, request),
  });
  const reports = createReports({
    version,
    startedMs: live.startedMs,
    limitMb: config.cells.memoryMb,
    planMb: plan.planMb,
    source,
    decisions,
    fleet,
    phase: () => live.phase,
    connections: () => live.listening?.snapshot().connections ?? { idle: 0, receiving: 0, working: 0 },
  });
  return { ...operations, ...reports };
}
