/** Ends what is connected to a database under a name. */
import type { Queryable } from "./database.ts";

/**
 * Terminates every backend of `applicationName` that belongs to our role; returns their number. Used after a
 * cell's thread was terminated: its backends would otherwise run their statements to the end and hold their
 * locks until then.
 */
export async function terminateBackends(database: Queryable, applicationName: string): Promise<number> {
  const { rows } = await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = left($1, 63) and usename = current_user and pid <> pg_backend_pid()
        and datname = current_database()`,
    [applicationName],
  );
  return rows.length;
}
