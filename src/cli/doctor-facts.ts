/** The facts that `rowhouse doctor` collects from a database. */

import { z } from "zod";
import { sessionConnections } from "../auth/session-databases.ts";
import type { Config, DatabaseConfig } from "../config/config.ts";
import { readAdvisoryLocks } from "../control/advisory-locks.ts";
import { controlState } from "../control/install.ts";
import { readWatchedTables } from "../control/watched-tables.ts";
import type { Database } from "../postgres/database.ts";
import { connectingFindings } from "../role-safety/connecting-role.ts";
import { findingTexts } from "../role-safety/finding.ts";
import { parseReaching, reachQuery } from "../role-safety/reach.ts";
import { foreignFindings, ownersOf, reachingFindings } from "../role-safety/role-safety.ts";
import { parseRoleFindings, roleSafetyQuery } from "../role-safety/tenant-roles.ts";
import { probeSettings } from "../shape/shape.ts";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import type { DatabaseFacts } from "./doctor-findings.ts";
import { tenantFindings } from "./tenant-findings.ts";

export interface FactsOptions {
  /** Objects that are allowed to reach beyond their tenant. */
  readonly acceptedSql: readonly string[];
  readonly preset: Config["preset"];
  /** Whether this database holds the table of tenants. */
  readonly tenantTable: boolean;
}

/**
 * Reads the facts; `tenants` are those of this database. Throws `DATABASE_UNREACHABLE`, and `CONFIG_INVALID`
 * for a foreign control schema.
 */
export async function readFacts(
  database: Database,
  { poolSize, poolReserve, renewAfter, install }: DatabaseConfig,
  tenants: readonly Tenant[],
  { acceptedSql, preset, tenantTable }: FactsOptions,
): Promise<DatabaseFacts> {
  const schemas = tenants.flatMap((tenant) => physicalNames(tenant.schemas));
  const roles = tenants.flatMap(({ roles: listed, session }) => [
    ...listedRoles(listed),
    ...(session === null || session.role === null ? [] : [session.role]),
  ]);
  const withRoles = tenants.filter((tenant) => listedRoles(tenant.roles).length > 0);
  const { rows } = await database.query(factsQuery, [
    [...new Set(schemas)],
    [...new Set(roles)],
    withRoles.flatMap((tenant) => physicalNames(tenant.schemas)),
  ]);
  const { version, version_number, server, connections, ...row } = factsRow.parse(rows[0]);
  return {
    name: database.name,
    server,
    version,
    versionNumber: version_number,
    connections,
    limits: { role: row.role_limit, database: row.database_limit },
    control: await controlState(database, { tenants: tenantTable }),
    advisoryLocks: await readAdvisoryLocks(database),
    role: {
      name: row.name,
      superuser: row.superuser,
      owned: row.owned,
      inherited: row.inherited,
      usable: row.usable,
      beyond: findingTexts(
        await connectingFindings({
          together: (statements) => database.together(statements),
          roles: async () => tenants.flatMap((tenant) => listedRoles(tenant.roles)),
        }),
      ),
    },
    missingSchemas: row.missing,
    tenants: await database.transaction((transaction) =>
      tenantFindings(transaction, tenants, { preset: preset !== null }),
    ),
    unsafe: await unsafeFindings(database, tenants, acceptedSql),
    watched: await readWatchedTables(database, [...new Set(schemas)]),
    rolelessTenants: tenants.filter((tenant) => listedRoles(tenant.roles).length === 0).length,
    poolSize,
    poolReserve,
    memory: { limitMb: renewAfter?.memoryMb ?? 0, isTold: row.tells_memory },
    sessionConnections: tenants.some(({ session }) => session !== null) ? sessionConnections : 0,
    install,
  };
}

/** Findings about the roles and the SQL of each tenant that give more access than they should. */
async function unsafeFindings(
  database: Database,
  tenants: readonly Tenant[],
  acceptedSql: readonly string[],
): Promise<string[]> {
  const owners = ownersOf(tenants);
  const found: string[] = [];
  const common = new Set<string>();
  for (const tenant of tenants) {
    const { roles, reaching } = await database.transaction(async (transaction) => {
      await transaction.query(probeSettings);
      const [asked, reach] = [roleSafetyQuery(tenant), reachQuery(tenant)];
      return {
        roles: parseRoleFindings((await transaction.query(asked.text, asked.values)).rows[0]),
        reaching: parseReaching((await transaction.query(reach.text, reach.values)).rows),
      };
    });
    const reached = reachingFindings(tenant, reaching, acceptedSql);
    for (const text of findingTexts([...roles.shared, ...reached.shared])) common.add(text);
    const own = [...roles.own, ...reached.own, ...foreignFindings(tenant, roles.usable, owners)];
    found.push(...findingTexts(own).map((text) => `tenant ${tenant.id}: ${text}`));
  }
  return [...common, ...found];
}

const names = z.array(z.string());
const factsRow = z.object({
  name: z.string(),
  superuser: z.boolean(),
  role_limit: z.int(),
  database_limit: z.int(),
  version: z.string(),
  version_number: z.int(),
  server: z.string(),
  connections: z.int(),
  tells_memory: z.boolean(),
  owned: z.int(),
  missing: names,
  inherited: names,
  usable: names,
});

/**
 * $1: tenants' schemas, $2: tenants' roles, $3: schemas of tenants that have roles. For a superuser every
 * privilege check is true.
 */
const factsQuery = `
  select r.rolname::text as name, r.rolsuper as superuser, r.rolconnlimit as role_limit,
    (select datconnlimit from pg_catalog.pg_database where datname = current_database()) as database_limit,
    current_setting('server_version') as version, current_setting('server_version_num')::int as version_number,
    -- Identifies the server, whatever name a URL has for it.
    extract(epoch from pg_postmaster_start_time())::text || ' ' || current_setting('port') as server,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true), '0')::int as connections,
    coalesce(
      has_table_privilege(to_regclass('pg_catalog.pg_backend_memory_contexts'), 'SELECT')
      and has_function_privilege(to_regprocedure('pg_catalog.pg_get_backend_memory_contexts()'), 'EXECUTE'), false
    ) as tells_memory,
    (
      select count(*)::int from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = any ($1::text[]) and c.relkind in ('r', 'p', 'f', 'v', 'm') and c.relowner = r.oid
    ) as owned,
    array(
      select name from unnest($1::text[]) name
      where not exists (select from pg_catalog.pg_namespace where nspname = name) order by 1
    ) as missing,
    array(
      select t.rolname::text from pg_catalog.pg_roles t
      where t.rolname = any ($2::text[]) and t.oid <> r.oid and pg_has_role(r.oid, t.oid, 'USAGE') order by 1
    ) as inherited,
    array(
      select n.nspname::text from pg_catalog.pg_namespace n
      where n.nspname = any ($3::text[]) and has_schema_privilege(r.oid, n.oid, 'USAGE')
      -- USAGE granted to PUBLIC is reported for that tenant.
      and not exists (select from aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'USAGE') order by 1
    ) as usable
  from pg_catalog.pg_roles r where r.rolname = current_user`;
