/** Asks PostgreSQL for a tenant's shape, and for what its roles may do. */
import { HostError } from "../kernel/errors.ts";
import type { GroupedStatement } from "../pg/group.ts";
import { parseShape, probeSettingsQuery, type ShapeProbe, shapeQuery } from "../shape/shape.ts";
import { parseRoleFindings, type RoleFindings, roleSafetyQuery } from "./role-safety.ts";
import type { Tenant } from "./tenant.ts";

export interface ProbedDatabase {
  /** The rows of each statement; all in one transaction, and none behind one that fails. */
  readonly together: (statements: readonly GroupedStatement[]) => Promise<readonly (readonly unknown[])[]>;
  /** Whether revisions are kept there. */
  readonly control: boolean;
}

export interface Probe {
  readonly shape: ShapeProbe;
  /** Null where they were not asked for. */
  readonly findings: RoleFindings | null;
}

/** A DDL command under way keeps whoever asks about its table waiting; the front has few connections to wait on. */
const lockTimeoutMs = 3_000;

/** What the clients of a tenant are told whose schema is locked, and others that wait for the same build: it names nobody. */
export const schemaLocked = "The tenant's schema is locked by a change under way.";

/**
 * The plans are the same for all tenants, and made once: 5 instead of 20 ms of CPU (PostgreSQL 18.4, 48 k relations). A table that is
 * being rewritten holds the probe up, and all other tenants' behind it.
 */
const settings: GroupedStatement = {
  text: probeSettingsQuery({ plan_cache_mode: "force_generic_plan", lock_timeout: String(lockTimeoutMs) }),
  prepared: true,
};

/** Throws `SCHEMA_NOT_FOUND`, `LOCK_TIMEOUT` and what the database throws; `safety`: whether roles are asked for. */
export async function probe(database: ProbedDatabase, tenant: Tenant, safety: boolean): Promise<Probe> {
  const asked = [shapeQuery(tenant, { revisions: database.control })];
  // The last word is the shape's, which leaves the planning to itself.
  if (safety) asked.unshift(roleSafetyQuery(tenant));
  const probing = database
    .together([settings, ...asked.map((query) => ({ ...query, prepared: true }))])
    .then((rows) => ({
      shape: parseShape(rows.at(-1)?.[0]),
      findings: safety ? parseRoleFindings(rows[1]?.[0]) : null,
    }));
  const probed = await probing.catch((error: unknown) => {
    if (!isLockTimeout(error)) throw error;
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

function isLockTimeout(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "55P03";
}
