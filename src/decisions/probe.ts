/** Reads a tenant's shape, and what its roles may do, from PostgreSQL. */
import { z } from "zod";
import type { GroupedStatement, Together } from "../postgres/group.ts";
import { parseReaching, reachQuery } from "../role-safety/reach.ts";
import {
  parseRoleFindings,
  roleSafetyQuery,
  type SafetyFindings,
  type SafetyInput,
} from "../role-safety/tenant-roles.ts";
import { parseShape, probeSettingsQuery, type ShapeProbe, shapeQuery } from "../shape/shape.ts";
import { wasInterrupted } from "../shared/connect/loss.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { tenantId } from "../shared/kernel/ids.ts";
import type { Tenant } from "../tenants/tenant.ts";

export interface ProbedDatabase {
  readonly together: Together;
  /** Whether the database has the control schema, which keeps revisions. */
  readonly control: boolean;
}

export interface Probe {
  readonly shape: ShapeProbe;
  /** Null if they were not requested. */
  readonly findings: SafetyFindings | null;
  /** The key of the tenant's advisory lock; null if there is no control schema. */
  readonly lock: string | null;
}

/** A DDL command in progress blocks a probe of its table, and the front has few connections for probes. */
const lockTimeoutMs = 3_000;

/**
 * The client's message when its tenant's schema is locked; others that wait for the same build see it too, so
 * it names no tenant.
 */
export const schemaLocked = "The tenant's schema is locked by a change in progress.";

/**
 * Prepared, because the plans are the same for all tenants: 5 instead of 20 ms of CPU (PostgreSQL 18.4,
 * 36,000 relations). The timeout is needed because a table that is being rewritten blocks the probe, and all
 * probes behind it.
 */
const settings: GroupedStatement = {
  text: probeSettingsQuery({ lock_timeout: String(lockTimeoutMs) }),
  prepared: true,
};

/**
 * Throws `SCHEMA_NOT_FOUND`, `LOCK_TIMEOUT`, `NO_CAPACITY` and what the database throws. `safety`: whether to
 * check the roles and the tenant's SQL.
 */
export async function probe(database: ProbedDatabase, tenant: Tenant, safety: boolean): Promise<Probe> {
  const probing = database.together(statements(database, tenant, safety), tenant.id).then((rows) => ({
    shape: parseShape(rows.at(-1)?.[0]),
    findings: safety ? { ...parseRoleFindings(rows[1]?.[0]), reaching: parseReaching(rows[2] ?? []) } : null,
    lock: database.control ? lockRow.parse(rows.at(-2)?.[0]).lock : null,
  }));
  const probed = await probing.catch((error: unknown) => {
    if (!wasInterrupted(error, "lock_not_available")) throw error;
    throw new HostError("LOCK_TIMEOUT", schemaLocked);
  });
  const [missing] = probed.shape.missing;
  if (missing !== undefined) {
    throw new HostError(
      "SCHEMA_NOT_FOUND",
      `tenant ${tenant.id}: schema ${JSON.stringify(missing)} does not exist`,
    );
  }
  return probed;
}

const lockRow = z.object({ lock: z.string() });

type Probed = SafetyInput & Pick<Tenant, "id">;

const nobody: Omit<Probed, "id"> = {
  schemas: [],
  sharedSchemas: [],
  // A role that does not exist: without one, the query would check the connecting role and every role it may
  // become.
  roles: { anonymous: "", authenticated: null, others: [] },
};

/** Plans all statements of a probe by probing a tenant that does not exist. Throws what the database throws. */
export async function warmPlans(database: ProbedDatabase): Promise<void> {
  await database.together(statements(database, { ...nobody, id: tenantId("nobody") }, true));
}

function statements(database: ProbedDatabase, tenant: Probed, safety: boolean): GroupedStatement[] {
  const asked = [shapeQuery(tenant, { revisions: database.control })];
  if (database.control) {
    asked.unshift({ text: "select rowhouse.tenant_lock_key($1)::text as lock", values: [tenant.id] });
  }
  // These go first: the shape query restores normal planning, to read enum rows as a build does, for every
  // statement after it.
  if (safety) asked.unshift(roleSafetyQuery(tenant), reachQuery(tenant));
  return [settings, ...asked.map((query) => ({ ...query, prepared: true }))];
}
