/** How many connections a server, a database and a role may have. */
import { z } from "zod";
import type { Queryable } from "./database.ts";

export interface ConnectionLimits {
  /** The same for databases of one server, whatever it is called in URLs. */
  readonly server: string;
  /** That the server gives to others than superusers. */
  readonly connections: number;
  /** Most of this role, and of this database; -1: no limit. */
  readonly role: number;
  readonly database: number;
}

const row = z.object({ server: z.string(), connections: z.int(), role: z.int(), database: z.int() });

/** Of the role that asks. */
export async function readConnectionLimits(queryable: Pick<Queryable, "query">): Promise<ConnectionLimits> {
  const { rows } = await queryable.query(`
    select extract(epoch from pg_postmaster_start_time())::text || ' ' || current_setting('port') as server,
      current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int as connections,
      (select rolconnlimit from pg_catalog.pg_roles where rolname = current_user) as role,
      (select datconnlimit from pg_catalog.pg_database where datname = current_database()) as database`);
  return row.parse(rows[0]);
}
