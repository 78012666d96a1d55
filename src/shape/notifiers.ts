/** Whether a tenant has functions that could NOTIFY while they are read from. */
import { anyPathFunction } from "./path-functions.ts";

/**
 * SQL, after `scopeCtes`: `notifying(able)`, whether the body of any function in the path's schemas contains
 * "notify", or calls `pg_notify` in a body in SQL standard form, which is stored as a tree. PostgreSQL lets a
 * STABLE function notify in a read-only transaction, and delivers the notification at COMMIT. Trigger
 * functions do not run in a read. Not detected: functions in C, views or policies that call `pg_notify`
 * themselves, and functions in other schemas.
 */
export const notifierCtes = `\
notifying as (
  select ${anyPathFunction(`
        p.prorettype not in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)
        and case when p.prosqlbody is null then p.prosrc ~ '[nN][oO][tT][iI][fF][yY]'
          else p.prosqlbody::text like '%:funcid ' || 'pg_catalog.pg_notify'::regproc::oid || ' %'
        end`)} as able
)`;
