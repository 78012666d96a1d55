/** How many cells the databases have connections for. Pure. */
import { sessionConnections } from "../../auth/session-databases.ts";
import type { ConnectionLimits } from "../../postgres/connection-limits.ts";

/** What a host takes of one database. */
export interface PoolNeeds {
  readonly limits: ConnectionLimits;
  /** Connections of each cell, and those that it may open beyond them. */
  readonly poolSize: number;
  readonly poolReserve: number;
}

/** Beside the cells': four for tenants and shapes, one that listens, one for a migration. */
export const frontConnections = 6;

/** A second host, which takes over from the first, is to fit beside it, and people with their tools. */
const share = 0.5;

/**
 * The most cells of a host that is not told how many: their pools leave half of each server's connections, and of each limit that a role
 * or a database has, to others, and fit with all that they keep in reserve. At least one; infinite without databases.
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
