/** What ends a transaction of which nothing may remain. */

/**
 * Releases session-level locks, which a rollback keeps: a tenant's function may have taken one that others
 * wait for. A statement of its own, because PostgreSQL checks the privilege before it runs anything, and a
 * function may have left the session as a role without it.
 */
export const unlockText = "select pg_catalog.pg_advisory_unlock_all()";

/** Unnamed, because a tenant's function may have deallocated the prepared statements. */
export const transactionOver: readonly { readonly text: string }[] = [
  { text: "rollback" },
  { text: unlockText },
];
