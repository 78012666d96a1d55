/** Plans and starts what serves requests: the fleet, and the governor that holds its cells to their memory. */
import { setFlagsFromString } from "node:v8";
import type { Config } from "../config/config.ts";
import { headerNamesOf } from "../config/request-headers.ts";
import type { Databases } from "../control/databases.ts";
import { Fleet } from "../fleet/fleet.ts";
import { Governor } from "../fleet/governor.ts";
import { type CapacityPlan, planCapacity } from "../fleet/policy/capacity.ts";
import { cellsWithConnections, type PoolNeeds } from "../fleet/policy/pool-room.ts";
import { readConnectionLimits } from "../postgres/connection-limits.ts";
import type { HostError } from "../shared/kernel/errors.ts";
import type { PatchStates } from "../shared/kernel/patch-policy.ts";
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";
import type { HostContext } from "./context.ts";

/** The plan that memory and the databases' connections allow, with V8 set to keep to it; throws what `planCapacity` does. */
export async function planCells(
  { config, observe }: HostContext,
  databases: Databases,
): Promise<CapacityPlan> {
  const plan = planCapacity(config.cells, cellsWithConnections(await poolNeeds(config, databases)));
  // V8 has it for the whole process only, and would go by the limit that the threads are given.
  setFlagsFromString(`--heap-growing-percent=${plan.growingPercent}`);
  observe({ kind: "host.plan", memoryMb: config.cells.memoryMb, ...plan });
  return plan;
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

export interface FleetParts {
  readonly plan: CapacityPlan;
  readonly databases: Databases;
  readonly patches: PatchStates;
  /** Serves the tenants of a key by dedicated instances from now on. */
  readonly refuse: (spec: BlueprintSpec, error: HostError) => void;
  readonly readsCore: (spec: BlueprintSpec) => void;
}

/** A fleet that builds and serves; what its threads leave in the databases is stopped there. */
export function startFleet(
  { config, applicationName, observe, started }: HostContext,
  { plan, databases, patches, refuse, readsCore }: FleetParts,
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
      production: config.production,
      resultBytes: limits.resultBytes,
      operations: { ...limits, introspection: config.introspection },
      statementTimeoutMs: limits.statementTimeoutMs,
      patches,
    },
    onUnshareable: refuse,
    onReadsCore: readsCore,
    onCellGone: (name) => void databases.cancel(name),
  });
  const governor = new Governor({ fleet, ...cells });
  // Closed after the fleet: cells that drain are watched to their end.
  started.add(() => governor.close());
  started.add(() => fleet.close());
  fleet.open();
  governor.open();
  return fleet;
}
