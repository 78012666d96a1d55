/** Whether a tenant's functions can list the statements prepared on their connection. */

/**
 * Names of prepared statements belong to the whole session: a function that knew one could replace it with a
 * statement of its own, for the next tenant to run. PostgreSQL exposes them through one function, which
 * `rowhouse install` revokes from everyone if it may. The session user must not have it either, because a
 * function can reset its role to that.
 */
export const hidesStatements =
  "not pg_catalog.has_function_privilege(session_user, 'pg_catalog.pg_prepared_statement()', 'execute')";

export const hideStatements = "revoke execute on function pg_catalog.pg_prepared_statement() from public";
