/** The response of `GET /status`, and the parts that the fleet contributes. */
import type { CellId, InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import type { CellPhase } from "../shared/kernel/phase.ts";
import type { PoolFigures } from "../shared/protocol/messages.ts";

export interface InstanceStatus {
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  /** Number of tenants that it has served. */
  readonly tenants: number;
  readonly requests: number;
  /** Milliseconds since its last request. */
  readonly lastUsedMs: number;
  readonly heapMb: number;
  /** The tenant in quarantine that this instance serves alone; null if there is none. */
  readonly quarantined: TenantId | null;
}

export interface CellStatus {
  readonly id: CellId;
  readonly phase: CellPhase;
  readonly heapUsedMb: number;
  readonly heapBudgetMb: number;
  readonly hardLimitMb: number;
  readonly inFlight: number;
  /** The requests in flight that are waiting for their tenant's turn. */
  readonly queued: number;
  readonly instances: readonly InstanceStatus[];
}

/** The fleet at one moment, including draining cells but not those that are gone. */
export interface FleetSnapshot {
  readonly cells: readonly CellStatus[];
  readonly builds: { readonly queued: number; readonly running: number };
  /** Instances evicted since the start. */
  readonly evictions: number;
  /** Connections to PostgreSQL of all cells together. */
  readonly connections: PoolFigures;
  /** Whether each database is read-only, as far as is known. */
  readonly readOnly: Readonly<Record<string, boolean>>;
}

/** The public listener at one moment. */
export interface ListenerSnapshot {
  /** Connections that are between requests, receiving one, and working on one. */
  readonly connections: { readonly idle: number; readonly receiving: number; readonly working: number };
  /** Connections refused or closed since the start, before their request had arrived: their address had too many, or the host had. */
  readonly refused: { readonly address: number; readonly full: number };
}

export interface StatusSnapshot {
  readonly version: string;
  readonly uptimeMs: number;
  readonly memory: { readonly rssMb: number; readonly limitMb: number; readonly planMb: number };
  readonly cells: readonly CellStatus[];
  readonly builds: { readonly queued: number; readonly running: number };
  readonly evictions: number;
  readonly tenants: { readonly known: number; readonly decided: number };
  /** Connections to the public listener. */
  readonly http: ListenerSnapshot["connections"];
}

/** Composes the status from its parts, with MB rounded to tenths and milliseconds to integers. */
export function composeStatus(parts: {
  readonly version: string;
  readonly uptimeMs: number;
  readonly memory: StatusSnapshot["memory"];
  readonly fleet: FleetSnapshot;
  readonly tenants: StatusSnapshot["tenants"];
  readonly http: StatusSnapshot["http"];
}): StatusSnapshot {
  const { version, uptimeMs, memory, fleet, tenants, http } = parts;
  return {
    version,
    uptimeMs: Math.round(uptimeMs),
    memory: {
      rssMb: tenth(memory.rssMb),
      limitMb: tenth(memory.limitMb),
      planMb: tenth(memory.planMb),
    },
    cells: fleet.cells.map((cell) => ({
      ...cell,
      heapUsedMb: tenth(cell.heapUsedMb),
      instances: cell.instances.map((instance) => ({
        ...instance,
        lastUsedMs: Math.round(instance.lastUsedMs),
        heapMb: tenth(instance.heapMb),
      })),
    })),
    builds: fleet.builds,
    evictions: fleet.evictions,
    tenants,
    http,
  };
}

const tenth = (value: number): number => Math.round(value * 10) / 10;
