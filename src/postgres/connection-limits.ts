/** The connection limits of a server, a database and a role. */
import { z } from "zod";
import type { Queryable } from "./database.ts";

export interface ConnectionLimits {
  /** Identifies the server, whatever it is called in URLs. */
  readonly server: string;
  /** Connections that the server allows to non-superusers. */
  readonly connections: number;
  /** Limits of this role, and of this database; -1: no limit. */
  readonly role: number;
  readonly database: number;
}

const row = z.object({ server: z.string(), connections: z.int(), role: z.int(), database: z.int() });

/** Reads the limits that apply to the connecting role. */
export async function readConnectionLimits(queryable: Pick<Queryable, "query">): Promise<ConnectionLimits> {
  const { rows } = await queryable.query(`
    select extract(epoch from pg_postmaster_start_time())::text || ' ' || current_setting('port') as server,
      current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int as connections,
      (select rolconnlimit from pg_catalog.pg_roles where rolname = current_user) as role,
      (select datconnlimit from pg_catalog.pg_database where datname = current_database()) as database`);
  return row.parse(rows[0]);
}
