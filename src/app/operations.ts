/** The operations of the admin API: read the status, inspect a tenant, evict, flush, migrate. */

import type { ChangesView } from "../control/looks.ts";
import type { Migrated, MigrationRequest } from "../control/tenant-migration.ts";
import type { Decision } from "../decisions/decision.ts";
import type { Decisions } from "../decisions/decisions.ts";
import { basisText, type SharingBasis } from "../decisions/sharing-basis.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { fleetSnapshot } from "../fleet/snapshot.ts";
import type { Operations, Reports, TenantView } from "../http/admin/contract.ts";
import type { Observe } from "../observability/observation.ts";
import { composeStatus, type StatusSnapshot } from "../observability/status.ts";
import { codesOf, findingTexts } from "../role-safety/finding.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { parseShapeHash, type ShapeHash } from "../shared/kernel/ids.ts";
import type { HostPhase } from "../shared/kernel/phase.ts";
import type { TenantSource } from "../tenants/source.ts";
import type { Tenant } from "../tenants/tenant.ts";

export interface OperationsDeps {
  readonly source: TenantSource;
  readonly decisions: Decisions;
  readonly fleet: Fleet;
  readonly changes: (tenant: Tenant) => ChangesView | null;
  /** Resolves once it is committed. */
  readonly migrate: (tenant: Tenant, request: MigrationRequest) => Promise<Migrated>;
  readonly observe: Observe;
}

export function createOperations(deps: OperationsDeps): Operations {
  const { source, decisions, fleet, observe } = deps;
  const find = async (id: string): Promise<Tenant> => {
    const tenant = await source.byId(id);
    if (tenant === null)
      throw new HostError("TENANT_UNKNOWN", `there is no tenant named ${JSON.stringify(id)}`);
    return tenant;
  };
  const decide = async (id: string): Promise<Decision> => decisions.decide(await find(id));

  return {
    async tenant(id) {
      const decision = await decide(id);
      const changes = deps.changes(decision.tenant);
      return { ...viewOf(decision, decisions.basisOf(decision)), ...(changes === null ? {} : { changes }) };
    },

    async evict(target) {
      if (target.cell !== undefined) {
        const cell = fleet.registry.cells.find((each) => each.id === target.cell);
        if (cell === undefined) throw new HostError("NOT_FOUND", "there is no cell with this id");
        return { evicted: fleet.evict((instance) => instance.cell === cell, "requested") };
      }
      if (target.tenant !== undefined) {
        // A shared instance is evicted for all its tenants and rebuilt with the next request of any of them.
        const { key, tenant } = await decide(target.tenant);
        decisions.forget(tenant.id);
        fleet.tryAgain((held) => held === key);
        return { evicted: fleet.evict((instance) => instance.spec.key === key, "requested") };
      }
      const evicted = fleet.evict((instance) => instance.spec.key === target.key, "requested");
      const held = fleet.tryAgain((key) => key === target.key);
      if (evicted.length === 0 && held === 0)
        throw new HostError("NOT_FOUND", "there is no instance with this key");
      return { evicted };
    },

    async flush() {
      const count = decisions.size;
      decisions.forgetAll();
      decisions.forgetRefusals();
      fleet.tryAgain(() => true);
      return { evicted: fleet.evict(() => true, "flushed"), decisions: count };
    },

    async migrate(id, { sql, expect }) {
      const shape = expectedShape(expect);
      const tenant = await find(id);
      const { applied: _, ...migrated } = await deps.migrate(tenant, {
        sql,
        ...(shape === undefined ? {} : { expect: shape }),
      });
      recordMigrated(decisions, tenant, migrated.revisions);
      const { from, to, ms: migrateMs } = migrated;
      observe({ kind: "tenant.migrated", tenant: tenant.id, from, to, migrateMs });
      return migrated;
    },
  };
}

export interface ReportsDeps {
  readonly version: string;
  /** When the host was started, by `performance.now()`. */
  readonly startedMs: number;
  /** The memory that the process may use, and what it uses with every cell at its budget. */
  readonly limitMb: number;
  readonly planMb: number;
  readonly source: TenantSource;
  readonly decisions: Decisions;
  readonly fleet: Fleet;
  readonly phase: () => HostPhase;
  /** The state of the public listener at the moment. */
  readonly connections: () => StatusSnapshot["http"];
}

export function createReports(deps: ReportsDeps): Reports {
  const { version, startedMs, limitMb, planMb, source, decisions, fleet } = deps;
  return {
    health: () => true,
    ready: () => deps.phase() === "ready" && fleet.healthy,
    readOnly: () => Object.values(fleet.readOnly).includes(true),
    status: () =>
      composeStatus({
        version,
        uptimeMs: performance.now() - startedMs,
        memory: { rssMb: process.memoryUsage.rss() / (1024 * 1024), limitMb, planMb },
        fleet: fleetSnapshot(fleet),
        tenants: { known: source.known, decided: decisions.size },
        http: deps.connections(),
      }),
  };
}

/** Parses a shape hash; throws `BAD_REQUEST` if `text` is not one. */
function expectedShape(text: string | undefined): ShapeHash | undefined {
  if (text === undefined) return undefined;
  const shape = parseShapeHash(text);
  if (shape !== undefined) return shape;
  throw new HostError("BAD_REQUEST", "expect must be a shape hash of 64 hexadecimal digits");
}

function recordMigrated(decisions: Decisions, tenant: Tenant, revisions: Migrated["revisions"]): void {
  // The migration also moved the revisions of tenants that share a schema with this one.
  for (const [schema, revision] of Object.entries(revisions)) {
    decisions.recordRevision(tenant.database, schema, BigInt(revision));
  }
  decisions.forget(tenant.id);
}

/** A decision as an operator sees it; revisions are strings, because they may exceed what a JSON number can represent. */
export function viewOf(decision: Decision, basis: SharingBasis | null): TenantView {
  const { tenant, key, kind, reason, hidden, unsafe, shape, core, revisions } = decision;
  return {
    id: tenant.id,
    key,
    kind,
    ...(reason === null ? {} : { reason }),
    ...(hidden.length === 0 ? {} : { hidden }),
    ...(unsafe.length === 0 ? {} : { unsafe: findingTexts(unsafe), unsafeCodes: codesOf(unsafe) }),
    shape,
    core,
    ...(basis === null ? {} : { sharesBy: basisText(basis) }),
    revisions,
    schemas: Object.fromEntries(tenant.schemas.map(({ logical, physical }) => [logical, physical])),
  };
}
