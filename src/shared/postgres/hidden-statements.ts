/** Whether a tenant's functions can list the statements prepared on their connection. */

/**
 * Names of prepared statements belong to the whole session: a function that knew one could replace it with a
 * statement of its own, for the next tenant to run. PostgreSQL exposes them through one function, which
 * `rowhouse install` revokes from everyone if it may. The session user must not have it either, because a
 * function can reset its role to that, nor any other role that is no superuser: tenants' roles may be members of it.
 */
export const hidesStatements = `(not pg_catalog.has_function_privilege(session_user, 'pg_catalog.pg_prepared_statement()', 'execute')
    and not exists (
      select from pg_catalog.pg_proc listing
      cross join pg_catalog.aclexplode(coalesce(listing.proacl, pg_catalog.acldefault('f', listing.proowner))) granted
      left join pg_catalog.pg_roles role on role.oid = granted.grantee
      where listing.oid = 'pg_catalog.pg_prepared_statement()'::pg_catalog.regprocedure and role.rolsuper is not true))`;

export const hideStatements = "revoke execute on function pg_catalog.pg_prepared_statement() from public";
