/** What an operator may ask of the host: to see a tenant, to evict, to forget. */
import { HostError } from "../kernel/errors.ts";
import type { InstanceKey } from "../kernel/ids.ts";
import type { Decision, Decisions } from "../tenant/decision.ts";
import type { TenantSource } from "../tenant/sources.ts";
import type { Fleet } from "./fleet.ts";

export interface TenantView {
  readonly id: string;
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  readonly reason?: string;
  readonly hidden?: readonly string[];
  readonly shape: string;
  readonly revisions: Readonly<Record<string, string>>;
  /** Logical name to physical, in order. */
  readonly schemas: Readonly<Record<string, string>>;
}

export interface EvictionTarget {
  readonly key?: string;
  readonly cell?: string;
  readonly tenant?: string;
}

export interface Operations {
  /** What is decided of a tenant, deciding it if need be. Throws `TENANT_UNKNOWN`, `SCHEMA_NOT_FOUND`, `DATABASE_UNREACHABLE`. */
  tenant(id: string): Promise<TenantView>;
  /** Takes instances out of service by key, cell or tenant; they drain meanwhile. Throws `NOT_FOUND` for a key or cell that is not there, `TENANT_UNKNOWN`. */
  evict(target: EvictionTarget): Promise<{ readonly evicted: readonly InstanceKey[] }>;
  /** Evicts everything and forgets every decision. */
  flush(): Promise<{ readonly evicted: readonly InstanceKey[]; readonly decisions: number }>;
}

export function createOperations(source: TenantSource, decisions: Decisions, fleet: Fleet): Operations {
  const decide = async (id: string): Promise<Decision> => {
    const tenant = await source.byId(id);
    if (tenant === null) throw new HostError("TENANT_UNKNOWN", `no tenant is called ${JSON.stringify(id)}`);
    return decisions.decide(tenant);
  };

  return {
    tenant: async (id) => viewOf(await decide(id)),

    async evict(target) {
      if (target.cell !== undefined) {
        const cell = fleet.roster.cells.find((each) => each.id === target.cell);
        if (cell === undefined) throw new HostError("NOT_FOUND", "no cell has this id");
        return { evicted: fleet.evict((instance) => instance.cell === cell, "requested") };
      }
      if (target.tenant !== undefined) {
        // A shared instance goes for all its tenants; it is back with the next request of any of them.
        const { key, tenant } = await decide(target.tenant);
        decisions.forget(tenant.id);
        return { evicted: fleet.evict((instance) => instance.spec.key === key, "requested") };
      }
      const evicted = fleet.evict((instance) => instance.spec.key === target.key, "requested");
      if (evicted.length === 0) throw new HostError("NOT_FOUND", "no instance has this key");
      return { evicted };
    },

    async flush() {
      const count = decisions.size;
      decisions.forgetAll();
      return { evicted: fleet.evict(() => true, "flushed"), decisions: count };
    },
  };
}

/** A decision as an operator sees it; revisions as text, since they may pass what a JSON number holds. */
export function viewOf(decision: Decision): TenantView {
  const { tenant, key, kind, reason, hidden, shape, revisions } = decision;
  return {
    id: tenant.id,
    key,
    kind,
    ...(reason === null ? {} : { reason }),
    ...(hidden.length === 0 ? {} : { hidden }),
    shape,
    revisions,
    schemas: Object.fromEntries(tenant.schemas.map(({ logical, physical }) => [logical, physical])),
  };
}
