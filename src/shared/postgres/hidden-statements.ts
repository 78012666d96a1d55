/** Whether a tenant's functions can find out what is prepared on the connection that they run on. */

/**
 * Names of prepared statements belong to the whole session: a function that knew one could put a statement of its own in its
 * place, for the next tenant to run. PostgreSQL tells them by one function, which `rowhouse install` takes from everyone where it
 * may. It has to be kept from the session's user as well: a function can go back to that.
 */
export const hidesStatements =
  "not pg_catalog.has_function_privilege(session_user, 'pg_catalog.pg_prepared_statement()', 'execute')";

export const hideStatements = "revoke execute on function pg_catalog.pg_prepared_statement() from public";
