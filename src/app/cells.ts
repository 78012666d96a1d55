/** Plans and starts the fleet, and the governor that keeps its cells within their memory. */
import { setFlagsFromString } from "node:v8";
import type { Config } from "../config/config.ts";
import { headerNamesOf } from "../config/request-headers.ts";
import type { Databases } from "../control/databases.ts";
import { Fleet } from "../fleet/fleet.ts";
import { Governor } from "../fleet/governor.ts";
import { type CapacityPlan, capacityOf, planCapacity } from "../fleet/policy/capacity.ts";
import { cellsWithConnections, type PoolNeeds } from "../fleet/policy/pool-room.ts";
import { readConnectionLimits } from "../postgres/connection-limits.ts";
import type { HostError } from "../shared/kernel/errors.ts";
import type { PatchStates } from "../shared/kernel/patch-policy.ts";
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";
import type { HostContext } from "./context.ts";

/** Plans as many cells as memory and the databases' connections allow, and sets V8's flags for them. Throws what `planCapacity` throws. */
export async function planCells(
  { config, observe }: HostContext,
  databases: Databases,
): Promise<CapacityPlan> {
  const plan = planCapacity(capacityOf(config), cellsWithConnections(await poolNeeds(config, databases)));
  // This flag applies to the whole process; without it V8 grows heaps up to the limit of the threads.
  setFlagsFromString(`--heap-growing-percent=${plan.growingPercent}`);
  observe({ kind: "host.plan", memoryMb: config.cells.memoryMb, ...plan });
  return plan;
}

/** The connections that the host needs in each database, and the limits there. */
function poolNeeds(config: Config, databases: Databases): Promise<readonly PoolNeeds[]> {
  const needs = Object.entries(config.databases).map(async ([name, { poolSize, poolReserve }]) => ({
    limits: await readConnectionLimits(databases.get(name).database),
    poolSize,
    poolReserve,
  }));
  return Promise.all(needs);
}

export interface FleetParts {
  readonly plan: CapacityPlan;
  readonly databases: Databases;
  readonly patches: PatchStates;
  /** Stops the tenants of a blueprint from sharing as they did, for the reason that `error` gives. */
  readonly refuse: (spec: BlueprintSpec, error: HostError) => void;
  /** Told which plugins of its preset a build of the full shape found not to be known. */
  readonly recordPlugins: (spec: BlueprintSpec, unknown: readonly string[]) => void;
}

/** Starts the fleet. Backends that an ended thread leaves behind are cancelled in the databases. */
export function startFleet(
  { config, applicationName, observe, started }: HostContext,
  { plan, databases, patches, refuse, recordPlugins }: FleetParts,
): Fleet {
  const { cells, builds, limits } = config;
  const fleet = new Fleet({
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
      realtime: config.realtime !== null,
      production: config.production,
      resultBytes: limits.resultBytes,
      operations: { ...limits, introspection: config.introspection },
      statementTimeoutMs: limits.statementTimeoutMs,
      patches,
    },
    onUnshareable: refuse,
    onPlugins: recordPlugins,
    onCellGone: (name) => void databases.terminateBackends(name),
  });
  const governor = new Governor({ fleet, ...cells });
  // Closed after the fleet, because draining cells are watched until they end.
  started.add(() => governor.close());
  started.add(() => fleet.close());
  fleet.open();
  governor.open();
  return fleet;
}
