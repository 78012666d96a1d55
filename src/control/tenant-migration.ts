/** A managed migration: SQL for one tenant, in one transaction, while writes to that tenant are blocked. */

import { createHash } from "node:crypto";
import { z } from "zod";
import type { Database, Queryable } from "../postgres/database.ts";
import { parseShape, probeSettings, probeSettingsOver, type ShapeProbe, shapeQuery } from "../shape/shape.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { type ShapeHash, shapeHash, type TenantId } from "../shared/kernel/ids.ts";
import { pathSchemas } from "../shared/model/blueprint-spec.ts";
import { searchPathText } from "../shared/postgres/search-path.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { readTriggers } from "./install.ts";
import { migrationError, ShapeMismatch } from "./migration-error.ts";
import { touchServed, watchRevisionMoves } from "./revision-moves.ts";
import { revisionsOf } from "./revisions.ts";

export interface MigrationRequest {
  readonly sql: string;
  /** The shape that the SQL expects. */
  readonly expect?: ShapeHash;
  /** Skips a tenant to which the same SQL has been applied. */
  readonly once?: boolean;
  /** Limit for each lock wait: the tenant's lock, and those of its tables. */
  readonly lockTimeoutMs?: number;
}

export interface Migrated {
  readonly tenant: TenantId;
  /** The shape before the migration, as the migrating role sees it. */
  readonly from: ShapeHash;
  readonly to: ShapeHash;
  /**
   * Revisions after the commit of every schema that affects the shape before or after it, by physical name;
   * "0" if there is none.
   */
  readonly revisions: Readonly<Record<string, string>>;
  readonly ms: number;
  /** False if `once` found that it had been applied before. */
  readonly applied: boolean;
}

const defaultLockTimeoutMs = 10_000;

/**
 * Applies SQL to a tenant, as the connecting role and with the tenant's search path: all of it or nothing.
 * `database` must use fresh connections, because the SQL may leave settings behind. Throws
 * `SCHEMA_NOT_FOUND`; `SCHEMA_CHANGED` with the current shape if it differs from `expect`; `LOCK_TIMEOUT`;
 * `MIGRATION_FAILED` with PostgreSQL's objection; `CONFIG_INVALID` without a control schema; and
 * `DATABASE_UNREACHABLE`, after which the SQL may have been applied if the connection was lost during COMMIT.
 */
export async function migrateTenant(
  database: Pick<Database, "transaction">,
  tenant: Tenant,
  request: MigrationRequest,
): Promise<Migrated> {
  const startedMs = performance.now();
  const { sql, lockTimeoutMs = defaultLockTimeoutMs } = request;
  try {
    const done = await database.transaction((transaction) =>
      migrate(transaction, tenant, { ...request, lockTimeoutMs }),
    );
    return { tenant: tenant.id, ...done, ms: Math.round(performance.now() - startedMs) };
  } catch (error) {
    throw migrationError(error, { tenant: tenant.id, sql, lockTimeoutMs });
  }
}

type Outcome = Omit<Migrated, "tenant" | "ms">;

async function migrate(
  transaction: Queryable,
  tenant: Tenant,
  { sql, expect, once = false, lockTimeoutMs }: MigrationRequest & { readonly lockTimeoutMs: number },
): Promise<Outcome> {
  await begin(transaction, tenant, lockTimeoutMs);
  const checksum = sqlChecksum(sql);
  const { shape: from, revisions: before } = await probeOf(transaction, tenant, true);
  if (once && (await readApplied(transaction, tenant, checksum)) !== null) {
    return { from, to: from, revisions: before, applied: false };
  }
  if (expect !== undefined && from !== expect) throw new ShapeMismatch(tenant.id, from);
  const { present, enabled } = await readTriggers(transaction);
  const move = present === 2 && enabled ? null : await watchRevisionMoves(transaction, tenant, before);

  await transaction.query("select set_config('search_path', $1, true)", [
    searchPathText(pathSchemas(tenant)),
  ]);
  await transaction.query("select rowhouse.run_migration($1)", [sql]);
  await restore(transaction, lockTimeoutMs);

  const { shape: to, revisions: after } = await probeAfter(transaction, tenant);
  const names = Object.keys({ ...before, ...after });
  await transaction.query(recordStatement, [tenant.id, checksum, firstSchema(tenant), from, to]);
  await move?.(names);
  // What COMMIT would do first: the tenant's own deferred constraints, and the revisions. This comes last
  // because it locks rows that migrations of other tenants wait for: nothing after it may wait.
  let revisions = await settle(transaction, names);
  if (to !== from && Object.entries(before).every(([name, revision]) => revisions[name] === revision)) {
    // Changes that no event trigger sees, such as the rows of an enum table.
    await touchServed(transaction, tenant);
    revisions = await settle(transaction, names);
  }
  return { from, to, revisions, applied: true };
}

async function settle(
  transaction: Queryable,
  schemas: readonly string[],
): Promise<Readonly<Record<string, string>>> {
  await transaction.query("set constraints all immediate");
  return revisionsOf(transaction, schemas);
}

async function begin(transaction: Queryable, tenant: Tenant, lockTimeoutMs: number): Promise<void> {
  // Overrides the role's or database's default: everything committed before the lock was granted must be
  // visible.
  await transaction
    .query("set transaction isolation level read committed, read write")
    .catch((error: unknown) => {
      // A standby's answer to a transaction that is set to write.
      if (!hasState(error, "feature_not_supported")) throw error;
      throw new HostError(
        "DATABASE_READ_ONLY",
        `tenant ${tenant.id}: the server is a standby; nothing was changed`,
        {
          cause: error,
        },
      );
    });
  await requireControl(transaction);
  await setLockTimeout(transaction, lockTimeoutMs);
  await transaction.query("select rowhouse.lock_tenant($1)", [tenant.id]);
}

async function requireControl(database: Queryable): Promise<void> {
  const { rows } = await database.query(
    "select pg_catalog.to_regprocedure('rowhouse.lock_tenant(text)') is not null as installed",
  );
  if (!z.object({ installed: z.boolean() }).parse(rows[0]).installed) {
    throw new HostError(
      "CONFIG_INVALID",
      'the control schema is missing or out of date: run "rowhouse install"',
    );
  }
}

async function setLockTimeout(transaction: Queryable, lockTimeoutMs: number): Promise<void> {
  await transaction.query("select set_config('lock_timeout', $1, true)", [String(lockTimeoutMs)]);
}

/** Undoes role and settings that the SQL may have changed: the shape is read as the connecting role. */
async function restore(transaction: Queryable, lockTimeoutMs: number): Promise<void> {
  for (const statement of ["reset session authorization", "reset role", "reset all"]) {
    await transaction.query(statement);
  }
  await setLockTimeout(transaction, lockTimeoutMs);
}

/** The shape of a tenant, as the connecting role sees it. Throws `SCHEMA_NOT_FOUND`. */
export function tenantShape(database: Pick<Database, "transaction">, tenant: Tenant): Promise<ShapeHash> {
  return database.transaction(async (transaction) => (await probeOf(transaction, tenant, false)).shape);
}

/** `revisions`: whether to read them as well. */
async function probeOf(transaction: Queryable, tenant: Tenant, revisions: boolean): Promise<ShapeProbe> {
  const { text, values } = shapeQuery(tenant, { revisions });
  await transaction.query(probeSettings);
  const { rows } = await transaction.query(text, values);
  await transaction.query(probeSettingsOver);
  const probed = parseShape(rows[0]);
  const [first] = probed.missing;
  if (first !== undefined) {
    throw new HostError(
      "SCHEMA_NOT_FOUND",
      `tenant ${tenant.id}: schema ${JSON.stringify(first)} does not exist`,
    );
  }
  return probed;
}

async function probeAfter(transaction: Queryable, tenant: Tenant): Promise<ShapeProbe> {
  try {
    return await probeOf(transaction, tenant, true);
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== "SCHEMA_NOT_FOUND") throw error;
    throw new HostError("MIGRATION_FAILED", `${error.message} after the SQL; nothing was changed`);
  }
}

const firstSchema = (tenant: Tenant): string => tenant.schemas[0]?.physical ?? "";

/** Identifies the SQL among what has been applied to a tenant. */
export const sqlChecksum = (sql: string): string => createHash("sha256").update(sql).digest("hex");

const recordStatement = `
  insert into rowhouse.applied (tenant, checksum, namespace, from_shape, to_shape)
  select $1, $2, oid, $4, $5 from pg_catalog.pg_namespace where nspname = $3
  on conflict (tenant, checksum) do update
    set namespace = excluded.namespace, from_shape = excluded.from_shape, to_shape = excluded.to_shape, applied_at = now()`;

const appliedRow = z.object({ from_shape: z.string().transform(shapeHash) });

/**
 * The tenant's shape before this SQL was applied; null if it has not been. Throws `CONFIG_INVALID` without a
 * control schema.
 */
export async function readApplied(
  database: Queryable,
  tenant: Tenant,
  checksum: string,
): Promise<ShapeHash | null> {
  await requireControl(database);
  const { rows } = await database.query(
    `select from_shape from rowhouse.applied a join pg_catalog.pg_namespace n on n.oid = a.namespace
      where a.tenant = $1 and a.checksum = $2 and n.nspname = $3`,
    [tenant.id, checksum, firstSchema(tenant)],
  );
  return rows.length === 0 ? null : appliedRow.parse(rows[0]).from_shape;
}
