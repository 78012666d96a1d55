/** Selects the tenants that a command applies to. */
import type { Databases } from "../control/databases.ts";
import { readApplied, sqlChecksum, tenantShape } from "../control/tenant-migration.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { ShapeHash } from "../shared/kernel/ids.ts";
import type { TenantSource } from "../tenants/source.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { inParallel } from "./parallel.ts";

export type Choice =
  | { readonly kind: "named"; readonly ids: readonly string[] }
  | { readonly kind: "all" }
  | { readonly kind: "like"; readonly id: string };

export interface SelectionContext {
  readonly databases: Databases;
  readonly source: TenantSource;
  readonly parallel: number;
  readonly sql: string;
  readonly again: boolean;
}

export interface Selection {
  readonly tenants: readonly Tenant[];
  /** The shape by which they were selected. */
  readonly shape?: ShapeHash;
}

/** The selected tenants; throws `TENANT_UNKNOWN` with every unknown id, and `CONFIG_INVALID` if there are none. */
export async function chooseTenants(choice: Choice, context: SelectionContext): Promise<Selection> {
  switch (choice.kind) {
    case "named":
      return { tenants: await named(choice.ids, context.source) };
    case "all":
      return { tenants: await everyTenant(context.source) };
    case "like":
      return alike(choice.id, context);
  }
}

async function named(ids: readonly string[], source: TenantSource): Promise<readonly Tenant[]> {
  const found = await Promise.all(ids.map(async (id) => ({ id, tenant: await source.byId(id) })));
  const unknown = found.filter(({ tenant }) => tenant === null).map(({ id }) => JSON.stringify(id));
  if (unknown.length > 0)
    throw new HostError("TENANT_UNKNOWN", `there is no tenant named ${unknown.join(", ")}`);
  return found.map(({ tenant }) => tenant).filter((tenant) => tenant !== null);
}

async function everyTenant(source: TenantSource): Promise<readonly Tenant[]> {
  const tenants = await source.list();
  if (tenants.length > 0) return tenants;
  throw new HostError(
    "CONFIG_INVALID",
    "the tenant source lists no tenants (a module must export list() for this)",
  );
}

async function alike(id: string, context: SelectionContext): Promise<Selection> {
  const { databases, source, parallel, sql, again } = context;
  const [model] = await named([id], source);
  if (model === undefined) return { tenants: [] };
  // If an earlier run has migrated the model, its shape differs from that of the tenants which that run did
  // not reach.
  const { database } = databases.get(model.database);
  const before = again ? null : await readApplied(database, model, sqlChecksum(sql));
  const shape = before ?? (await tenantShape(database, model));
  const found = await inParallel(await everyTenant(source), parallel, async (tenant) => ({
    tenant,
    shape: await shapeIfAny(tenant, databases),
  }));
  return { tenants: found.filter((each) => each.shape === shape).map(({ tenant }) => tenant), shape };
}

/** Null for a tenant whose schema does not exist, which therefore matches none. */
async function shapeIfAny(tenant: Tenant, databases: Databases): Promise<ShapeHash | null> {
  try {
    return await tenantShape(databases.get(tenant.database).database, tenant);
  } catch (error) {
    if (error instanceof HostError && error.code === "SCHEMA_NOT_FOUND") return null;
    throw error;
  }
}
