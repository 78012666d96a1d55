/** A snapshot of the fleet for `/status` and the metrics. */
import type { FleetSnapshot } from "../observability/status.ts";
import type { Fleet } from "./fleet.ts";

export function fleetSnapshot(fleet: Fleet): FleetSnapshot {
  const nowMs = performance.now();
  const { cells } = fleet.registry;
  const connections = { total: 0, idle: 0, waiting: 0, reserve: 0 };
  for (const cell of cells) {
    connections.total += cell.connections.total;
    connections.idle += cell.connections.idle;
    connections.waiting += cell.connections.waiting;
    connections.reserve += cell.connections.reserve;
  }
  return {
    cells: cells.map((cell) => ({
      id: cell.id,
      phase: cell.phase,
      heapUsedMb: cell.heap.usedMb,
      heapBudgetMb: cell.heapMb,
      hardLimitMb: cell.hardLimitMb,
      inFlight: cell.inFlight,
      queued: cell.queued,
      instances: fleet.registry.instancesOf(cell).map((instance) => ({
        key: instance.spec.key,
        kind: instance.spec.kind,
        tenants: instance.tenants.size,
        requests: instance.requests,
        lastUsedMs: nowMs - instance.lastUsedMs,
        heapMb: instance.heapMb,
        quarantined: instance.reservedFor,
      })),
    })),
    builds: fleet.builds,
    evictions: fleet.evictions,
    connections,
    readOnly: fleet.readOnly,
  };
}
