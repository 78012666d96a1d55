/** Faults between two parts of a config, each of which is valid on its own. */
import { isIP } from "node:net";
import { fileURLToPath } from "node:url";
import { tenantClashes } from "../tenants/source.ts";
import { completeTenant, databaseFault, type TenantDefaults, tenantRecord } from "../tenants/tenant.ts";
import { tokenClashes } from "../tenants/token-conflicts.ts";
import type { Fault } from "../validation/config-error.ts";
import { isFile, moduleUrl } from "./module-file.ts";
import { configSchema, modulePath } from "./schema.ts";

type Raw = Readonly<Record<string, unknown>>;

/**
 * Checks across the parts of `raw`. It reads what was written rather than what was parsed, part by part, so
 * that a fault elsewhere does not hide these until the next attempt.
 */
export function crossFaults(raw: unknown): Fault[] {
  if (!isRecord(raw)) return [];
  return [...tenantFaults(raw), ...listenerFaults(raw)];
}

/** The modules named in `raw` that do not exist. */
export async function missingModules(raw: unknown, directory: string): Promise<Fault[]> {
  if (!isRecord(raw)) return [];
  const { preset, tenants } = raw;
  const modules = { preset, "tenants.module": isRecord(tenants) ? tenants["module"] : undefined };
  const faults: Fault[] = [];
  for (const [path, value] of Object.entries(modules)) {
    const named = modulePath.safeParse(value).data;
    if (named === undefined) continue;
    const file = fileURLToPath(moduleUrl(named, directory));
    if (!(await isFile(file))) faults.push({ path, message: `there is no file ${file}` });
  }
  return faults;
}

/** The default database: `main`, or the only one. */
export function tenantDefaults(databases: readonly string[]): TenantDefaults {
  const only = databases.length === 1 ? databases[0] : undefined;
  return { databases, database: databases.includes("main") ? "main" : (only ?? null) };
}

function tenantFaults({ tenants, databases }: Raw): Fault[] {
  const names = isRecord(databases) ? Object.keys(databases) : [];
  if (names.length === 0) {
    // Without tenants as well, the demo is served.
    const message = "no database is configured: set databases.main.url or DATABASE_URL";
    return tenants === undefined ? [] : [{ path: "databases", message }];
  }
  const defaults = tenantDefaults(names);
  if (Array.isArray(tenants)) return [...listFaults(tenants, defaults)];
  if (isRecord(tenants) && "module" in tenants) return [];
  const table = isRecord(tenants) && isRecord(tenants["table"]) ? tenants["table"] : {};
  const path = tenants === undefined ? "tenants" : "tenants.table.database";
  return nameFaults(table["database"], path, defaults);
}

function listFaults(tenants: readonly unknown[], defaults: TenantDefaults): Fault[] {
  const records = tenants.map((tenant) => (isRecord(tenant) ? tenant : {}));
  const { id, hosts } = tenantRecord.shape;
  return [
    ...records.flatMap((tenant, index) =>
      nameFaults(tenant["database"], `tenants[${index}].database`, defaults),
    ),
    ...tenantClashes(
      records.map((tenant) => ({
        id: id.safeParse(tenant["id"]).data,
        hosts: hosts.safeParse(tenant["hosts"]).data ?? [],
      })),
    ),
    ...tokenClashes(
      tenants.flatMap((record, index) => {
        const parsed = tenantRecord.safeParse(record).data;
        const known = defaults.databases.includes(parsed?.database ?? defaults.database ?? "");
        return parsed === undefined || !known ? [] : [{ index, tenant: completeTenant(parsed, defaults) }];
      }),
    ),
  ];
}

function nameFaults(name: unknown, path: string, { database, databases }: TenantDefaults): Fault[] {
  const chosen = name ?? database;
  // The schema reports anything that is not a string.
  if (chosen !== null && (typeof chosen !== "string" || databases.includes(chosen))) return [];
  return [{ path, message: databaseFault(chosen, databases) }];
}

const everywhere: readonly string[] = ["0.0.0.0", "::"];

function listenerFaults(raw: Raw): Fault[] {
  const listen = configSchema.shape.listen.safeParse(raw["listen"]).data;
  const admin = configSchema.shape.admin.safeParse(raw["admin"]).data;
  const faults: Fault[] = [];
  if (admin !== undefined && !isLoopback(admin.host) && (admin.token ?? "").length < 16) {
    const message = `must have at least 16 characters, because admin.host (${admin.host}) is reachable from outside`;
    faults.push({ path: "admin.token", message });
  }
  if (admin === undefined || listen === undefined) return faults;
  const meet =
    listen.host === admin.host || [listen.host, admin.host].some((host) => everywhere.includes(host));
  if (meet && listen.port === admin.port && listen.port !== 0) {
    faults.push({ path: "admin.port", message: `${admin.port} is already the public listener's port` });
  }
  return faults;
}

function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith("127.");
  return host === "::1" || host.toLowerCase() === "localhost";
}

function isRecord(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
