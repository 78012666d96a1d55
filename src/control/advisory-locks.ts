/**
 * Who may take advisory locks: everybody, unless `rowhouse install --revoke-advisory-locks` has reserved them
 * for hosts.
 */
import { z } from "zod";
import type { Database, Queryable } from "../postgres/database.ts";

export interface AdvisoryLocks {
  /** Whether every role may. */
  readonly open: boolean;
  /** Whether the connecting role may. */
  readonly usable: boolean;
}

const lockFunctions = `pg_catalog.pg_proc p
  where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^pg_(try_)?advisory_'`;

const row = z.object({ open: z.boolean(), usable: z.boolean() });

export async function readAdvisoryLocks(database: Queryable): Promise<AdvisoryLocks> {
  const { rows } = await database.query(`
    select coalesce(bool_or(exists (
      select from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a where a.grantee = 0
    )), true) as open, coalesce(bool_and(has_function_privilege(p.oid, 'execute')), false) as usable
    from ${lockFunctions}`);
  return row.parse(rows[0]);
}

/**
 * Revokes advisory locks from everybody except superusers and the roles of hosts and migrations, which may use
 * tenants' locks; returns who may take them now. If the connecting role may not revoke them, PostgreSQL warns and does nothing, or
 * refuses (42501). Run it again when another role is to be a host's.
 */
export async function revokeAdvisoryLocks(database: Pick<Database, "transaction">): Promise<AdvisoryLocks> {
  return database.transaction(async (transaction) => {
    await transaction.execute(`do $$
      declare
        known regrole;
        taking regprocedure;
      begin
        for taking in select p.oid::regprocedure from ${lockFunctions} loop
          for known in
            -- Not whoever may use the schema: tenants' roles publish.
            select distinct a.grantee::regrole from pg_catalog.pg_proc p
              cross join pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
            where p.pronamespace = (select oid from pg_catalog.pg_namespace where nspname = 'rowhouse')
              and p.proname in ('tenant_lock_key', 'lock_tenant') and a.grantee <> 0
          loop
            execute format('grant execute on function %s to %s', taking, known);
          end loop;
          execute format('revoke execute on function %s from public', taking);
        end loop;
      end $$`);
    return readAdvisoryLocks(transaction);
  });
}
