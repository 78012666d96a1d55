/** Asks PostgreSQL for a tenant's shape, and for what its roles may do. */
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
  /** Whether revisions are kept there. */
  readonly control: boolean;
}

export interface Probe {
  readonly shape: ShapeProbe;
  /** Null where they were not asked for. */
  readonly findings: SafetyFindings | null;
  /** The key of the tenant's lock; null where there is no control schema. */
  readonly lock: string | null;
}

/** A DDL command under way keeps whoever asks about its table waiting; the front has few connections to wait on. */
const lockTimeoutMs = 3_000;

/** What the clients of a tenant are told whose schema is locked, and others that wait for the same build: it names nobody. */
export const schemaLocked = "The tenant's schema is locked by a change under way.";

/**
 * The plans are the same for all tenants, and made once: 5 instead of 20 ms of CPU (PostgreSQL 18.4, 36,000 relations). A table that is
 * being rewritten holds the probe up, and all other tenants' behind it.
 */
const settings: GroupedStatement = {
  text: probeSettingsQuery({ lock_timeout: String(lockTimeoutMs) }),
  prepared: true,
};

/**
 * Throws `SCHEMA_NOT_FOUND`, `LOCK_TIMEOUT`, `NO_CAPACITY` and what the database throws; `safety`: whether roles and the tenant's SQL are
 * looked at.
 */
export async function probe(database: ProbedDatabase, tenant: Tenant, safety: boolean): Promise<Probe> {
  const probing = database.together(statements(database, tenant, safety), tenant.id).then((rows) => ({
    shape: parseShape(rows.at(-1)?.[0]),
    findings: safety ? { ...parseRoleFindings(rows[1]?.[0]), reaching: parseReaching(rows[2] ?? []) } : null,
    lock: database.control ? lockRow.parse(rows.at(-2)?.[0]).lock : null,
  }));
  const probed = await probing.catch((error: unknown) => {
    if (!wasInterrupted(error, "55P03")) throw error;
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
  // One that there is not: where none is listed it is the connecting role, and all that it may become.
  roles: { anonymous: "", authenticated: null, others: [] },
};

/** Has all of a probe planned, as there is nobody to probe. Throws what the database throws. */
export async function warmPlans(database: ProbedDatabase): Promise<void> {
  await database.together(statements(database, { ...nobody, id: tenantId("nobody") }, true));
}

function statements(database: ProbedDatabase, tenant: Probed, safety: boolean): GroupedStatement[] {
  const asked = [shapeQuery(tenant, { revisions: database.control })];
  if (database.control) {
    asked.unshift({ text: "select rowhouse.tenant_lock_key($1)::text as lock", values: [tenant.id] });
  }
  // In front: what comes behind the shape, which has rows of enums read as a build does, is planned as usual.
  if (safety) asked.unshift(roleSafetyQuery(tenant), reachQuery(tenant));
  return [settings, ...asked.map((query) => ({ ...query, prepared: true }))];
}
