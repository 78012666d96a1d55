/** How many cells the databases have connections for. Pure. */
import { sessionConnections } from "../../auth/session-databases.ts";
import type { ConnectionLimits } from "../../postgres/connection-limits.ts";

/** Connections that a host needs in one database. */
export interface PoolNeeds {
  readonly limits: ConnectionLimits;
  /** Pool size of each cell, and the connections that it may open beyond it. */
  readonly poolSize: number;
  readonly poolReserve: number;
}

/**
 * Connections of the front, beside the cells': four for tenants and shapes, one for LISTEN, one for a
 * migration.
 */
export const frontConnections = 6;

/**
 * Half of the connections stay free for a second host that takes over from the first, and for people with
 * their tools.
 */
const share = 0.5;

/**
 * The maximum number of cells if the configuration does not set it. Their pools use at most half of each
 * server's connections and of each connection limit of a role or database, and fit into all of them together
 * with their reserves. At least 1; infinite without databases.
 */
export function cellsWithConnections(databases: readonly PoolNeeds[]): number {
  const servers = [...Map.groupBy(databases, ({ limits }) => limits.server).values()].map((group) =>
    fitting(group[0]?.limits.connections ?? 0, group),
  );
  const limited = databases.flatMap((each) => {
    const limits = [each.limits.role, each.limits.database].filter((limit) => limit >= 0);
    return limits.map((limit) => fitting(limit, [each]));
  });
  return Math.max(1, Math.min(...servers, ...limited));
}

function fitting(most: number, group: readonly PoolNeeds[]): number {
  const front = group.length * (frontConnections + sessionConnections);
  const pools = group.reduce((sum, { poolSize }) => sum + poolSize, 0);
  const reserves = group.reduce((sum, { poolReserve }) => sum + poolReserve, 0);
  return Math.floor(Math.min((most * share - front) / pools, (most - front) / (pools + reserves)));
}
