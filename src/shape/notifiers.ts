/** Whether a tenant has functions that could notify others while they are read from. */
import { anyPathFunction } from "./path-functions.ts";

/**
 * SQL, after `scopeCtes`: `notifying(able)`, whether any function of the path's schemas says so much as "notify", or calls `pg_notify` in a
 * body in SQL standard form, which is kept as a tree. PostgreSQL lets a STABLE function notify, in a transaction that may only read, and
 * delivers that at its commit. A trigger's function does not run in a read. Of functions in C, of a view or policy that calls
 * `pg_notify` itself, and of functions in other schemas nothing is known.
 */
export const notifierCtes = `\
notifying as (
  select ${anyPathFunction(`
        p.prorettype not in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)
        and case when p.prosqlbody is null then p.prosrc ~ '[nN][oO][tT][iI][fF][yY]'
          else p.prosqlbody::text like '%:funcid ' || 'pg_catalog.pg_notify'::regproc::oid || ' %'
        end`)} as able
)`;
