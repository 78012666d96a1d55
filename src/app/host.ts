/** The composition root: starts everything in order, closes it in reverse. */
import { randomBytes } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { Authenticator } from "../auth/authenticator.ts";
import { SessionDatabases } from "../auth/session-databases.ts";
import type { Config } from "../config/config.ts";
import { headerNamesOf } from "../config/request-headers.ts";
import { Databases } from "../control/databases.ts";
import { migrateTenant } from "../control/tenant-migration.ts";
import { LockBackoff } from "../decisions/lock-backoff.ts";
import { type Admitted, Dispatcher } from "../dispatch/dispatcher.ts";
import { patienceOf } from "../dispatch/retry-budget.ts";
import { Fleet } from "../fleet/fleet.ts";
import { Governor } from "../fleet/governor.ts";
import { planCapacity } from "../fleet/policy/capacity.ts";
import { cellsWithConnections, type PoolNeeds } from "../fleet/policy/pool-room.ts";
import { fleetSnapshot } from "../fleet/snapshot.ts";
import { createAdminApp } from "../http/admin/app.ts";
import { serveApp, serveDirectly } from "../http/fetch-app.ts";
import { Proxies } from "../http/proxies.ts";
import { createPublicApp, type PublicRequest } from "../http/public/app.ts";
import { NamedHeaders } from "../http/public/named-headers.ts";
import { type Listening, listen } from "../http/server.ts";
import type { Logger } from "../observability/logger.ts";
import { createMetrics } from "../observability/metrics.ts";
import type { Observe } from "../observability/observation.ts";
import { composeStatus } from "../observability/status.ts";
import { readConnectionLimits } from "../postgres/connection-limits.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import { statesOf } from "../shared/kernel/patch-policy.ts";
import { type HostPhase, hostStep } from "../shared/kernel/phase.ts";
import type { Answer } from "../shared/protocol/messages.ts";
import { createRouter, type RequestFacts, type Routed } from "../tenants/router.ts";
import { ConfigError } from "../validation/config-error.ts";
import { createOperations } from "./operations.ts";
import { patchFaults, readPatchReports } from "./patch-reports.ts";
import { openDecisions, openSource, watchSchemas } from "./tenants.ts";

export interface HostOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  /** The answer to a request that nobody has to be asked for, if it is one; null for every other. */
  readonly welcome?: (facts: RequestFacts) => Answer | null;
}

export interface Host {
  readonly publicUrl: string;
  readonly adminUrl: string;
  /** Forgets every decision and drains every instance, as POST /flush does; requests go on. */
  flush(): Promise<void>;
  /** Stops accepting, drains for at most `cells.drainTimeout`, and ends everything that was started. */
  close(): Promise<void>;
}

/** Closes what was started, in reverse; every part gets its turn whatever the others do. */
class Started {
  readonly #closers: (() => unknown)[] = [];

  add(close: () => unknown): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) {
      // A part that cannot be closed must not keep the others open.
      await Promise.resolve()
        .then(close)
        .catch(() => undefined);
    }
  }
}

/** Starts the host; throws the HostError that says why it cannot, after closing what had been started. */
export async function startHost(options: HostOptions): Promise<Host> {
  const started = new Started();
  try {
    return await start(options, started);
  } catch (error) {
    await started.close();
    throw error;
  }
}

async function start({ config, version, log, welcome }: HostOptions, started: Started): Promise<Host> {
  const startedMs = performance.now();
  let phase: HostPhase = "starting";
  let fleet: Fleet | null = null;
  let open: Listening | null = null;
  const metrics = createMetrics(
    () => (fleet === null ? null : fleetSnapshot(fleet)),
    () => log.dropped.all,
    () => open?.snapshot() ?? null,
  );
  const observe: Observe = (observation) => {
    log.observe(observation);
    metrics.observe(observation);
  };
  const enter = (next: HostPhase): void => {
    phase = hostStep(phase, next);
    observe({ kind: "host.phase", phase, version });
  };
  enter("starting");
  observe({ kind: "host.config", file: config.file, envFiles: config.envFiles });

  // What cannot be had is said before anything is connected to.
  planCapacity(config.cells);
  const patches = await readPatchReports();
  for (const report of patches) observe({ kind: "patch.state", ...report });
  const faults = patchFaults(patches);
  if (faults.length > 0) throw new ConfigError(faults);

  // Names the host among others on the same database; its cells add theirs.
  const applicationName = `rowhouse:${randomBytes(4).toString("hex")}`;
  const { guard, tenants } = config;
  const databases = await Databases.open({
    databases: config.databases,
    guard,
    applicationName,
    observe,
    tenantTable: tenants.kind === "table" ? tenants.database : null,
  });
  started.add(() => databases.close());

  const plan = planCapacity(config.cells, cellsWithConnections(await poolNeeds(config, databases)));
  // V8 has it for the whole process only, and would go by the limit that the threads are given.
  setFlagsFromString(`--heap-growing-percent=${plan.growingPercent}`);
  observe({ kind: "host.plan", memoryMb: config.cells.memoryMb, ...plan });

  const source = await openSource(config, databases, observe);
  started.add(() => source.close());

  const decisions = await openDecisions({ config, version }, databases, source, observe);
  const watch = watchSchemas({ databases, source, decisions, observe, everyMs: config.guardPollMs });
  started.add(() => watch.close());
  await databases.listen();
  watch.open();

  const sessions = new SessionDatabases({ databases: config.databases, applicationName, observe });
  started.add(() => sessions.close());
  const authenticator = new Authenticator({ sessions: (name) => sessions.get(name) });
  started.add(() => authenticator.close());

  const { cells, builds, limits } = config;
  fleet = new Fleet({
    ...cells,
    plan,
    builds,
    observe,
    setup: {
      applicationName,
      databases: config.databases,
      preset: config.preset,
      requestHeaders: headerNamesOf(config.requestHeaders),
      graphiql: config.graphiql,
      production: config.production,
      resultBytes: limits.resultBytes,
      operations: { ...limits, introspection: config.introspection },
      statementTimeoutMs: limits.statementTimeoutMs,
      patches: statesOf(patches),
    },
    onCellGone: (name) => void databases.cancel(name),
  });
  const running = fleet;
  const governor = new Governor({ fleet, ...cells });
  // Closed after the fleet: cells that drain are watched to their end.
  started.add(() => governor.close());
  started.add(() => running.close());
  running.open();
  governor.open();

  const router = createRouter(config.routing, source);
  const pauses = new LockBackoff({ decisions });
  const dispatcher = new Dispatcher({
    fleet,
    known: (tenant) => decisions.known(tenant),
    decide: (tenant) => pauses.decide(tenant),
    verify: (decision) => pauses.verify(decision),
    invalidate: (decision, revisions) => {
      decisions.disprove(decision, revisions);
      source.outdate(decision.tenant);
    },
    refuse: (decision, reason) => decisions.refuse(decision.key, reason),
    observe,
    patienceMs: patienceOf(limits.requestTimeoutMs),
  });
  const handle = (request: PublicRequest): Promise<Answer> => {
    const { facts, headers, body, signal } = request;
    const page = welcome?.(facts) ?? null;
    if (page !== null) return Promise.resolve(page);
    const admitRouted = (routed: Routed | null): MaybePromise<Admitted> => {
      if (routed === null) throw new HostError("TENANT_UNKNOWN");
      const { tenant, path, basePath } = routed;
      request.routed(tenant.id);
      const signing = authenticator.signing(tenant);
      const known = authenticator.known(tenant, facts);
      if (known !== undefined) return { tenant, path, basePath, settings: known, signing };
      return authenticator
        .settings(tenant, facts)
        .then((settings) => ({ tenant, path, basePath, settings, signing }));
    };
    const admit = (): MaybePromise<Admitted> => {
      const routed = router.route(facts);
      return routed instanceof Promise ? routed.then(admitRouted) : admitRouted(routed);
    };
    const { method, query } = facts;
    return dispatcher.dispatch({ method, query, headers, body, signal, admit });
  };

  const operations = createOperations({
    source,
    decisions,
    fleet,
    changes: (tenant) => watch.changes(tenant.database),
    observe,
    migrate: (tenant, request) => migrateTenant(databases.get(tenant.database).migrations, tenant, request),
  });
  const adminApp = createAdminApp({
    operations: {
      ...operations,
      health: () => true,
      ready: () => phase === "ready" && running.healthy,
      readOnly: () => Object.values(running.readOnly).includes(true),
      status: () =>
        composeStatus({
          version,
          uptimeMs: performance.now() - startedMs,
          memory: {
            rssMb: process.memoryUsage.rss() / (1024 * 1024),
            limitMb: cells.memoryMb,
            planMb: plan.planMb,
          },
          fleet: fleetSnapshot(running),
          tenants: { known: source.known, decided: decisions.size },
          http: open?.snapshot().connections ?? { idle: 0, receiving: 0, working: 0 },
        }),
    },
    token: config.admin.token,
    metricsText: async () => ({ contentType: metrics.contentType, text: await metrics.text() }),
    observe,
  });
  const admin = await listen(
    serveApp(adminApp),
    { host: config.admin.host, port: config.admin.port },
    observe,
  );
  started.add(() => admin.close(1_000));
  observe({ kind: "host.listening", name: "admin", url: admin.url });

  const proxies = new Proxies(config.listen.trustProxy);
  const publicApp = createPublicApp({
    handle,
    proxies,
    namedHeaders: new NamedHeaders(config.requestHeaders),
    // The front is planned with 100 MB; where there is more memory, slow clients may have more of it.
    limits: {
      ...limits,
      backlogBytes: Math.max(64 * 2 ** 20, 2 * limits.bodyBytes, (cells.memoryMb * 2 ** 20) / 16),
    },
    observe,
    phase: () => phase,
  });
  const { host, port } = config.listen;
  const { connections, addressConnections } = limits;
  const isProxy = (address: string): boolean => proxies.isProxy(address);
  const listening = await listen(
    serveDirectly(publicApp),
    {
      host,
      port,
      connections,
      addressConnections,
      isProxy,
      onCrowded: warnOnce(observe, addressConnections),
    },
    observe,
  );
  open = listening;
  started.add(() => listening.close(cells.drainTimeoutMs));
  observe({ kind: "host.listening", name: "public", url: listening.url });
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

/** What the host takes of the connections of each database, and how many there are. */
function poolNeeds(config: Config, databases: Databases): Promise<readonly PoolNeeds[]> {
  const needs = Object.entries(config.databases).map(async ([name, { poolSize, poolReserve }]) => ({
    limits: await readConnectionLimits(databases.get(name).database),
    poolSize,
    poolReserve,
  }));
  return Promise.all(needs);
}

/** Says of one address that its connections are too many: more would be a flood of the log as well. */
function warnOnce(observe: Observe, most: number): (address: string) => void {
  let isTold = false;
  return (address) => {
    if (isTold) return;
    isTold = true;
    const message = `${address} has ${most} connections, limits.addressConnections, and asks for more: where that is a proxy, name it here`;
    observe({ kind: "config.warning", path: "listen.trustProxy", message });
  };
}
