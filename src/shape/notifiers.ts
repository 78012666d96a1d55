/** Whether a tenant has functions that could notify others while they are read from. */

/**
 * SQL, after `scopeCtes`: `notifying(able)`, whether any function of the path's schemas says so much as "notify", or calls `pg_notify` in a
 * body in SQL standard form, which is kept as a tree. PostgreSQL lets a STABLE function notify, in a transaction that may only read, and
 * delivers that at its commit. A trigger's function does not run in a read. Of functions in C, of a view or policy that calls
 * `pg_notify` itself, and of functions in other schemas nothing is known.
 */
export const notifierCtes = `\
notifying as (
  select exists (
    select from (select oid from served union select oid from shared) path
    cross join lateral (
      select objid from pg_catalog.pg_depend
      where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = path.oid
      and classid = 'pg_catalog.pg_proc'::regclass
      offset 0
    ) d
    cross join lateral (
      select p.oid from pg_catalog.pg_proc p
      where p.oid = d.objid
      and p.prorettype not in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)
      and case when p.prosqlbody is null then p.prosrc ~ '[nN][oO][tT][iI][fF][yY]'
        else p.prosqlbody::text like '%:funcid ' || 'pg_catalog.pg_notify'::regproc::oid || ' %'
      end
      offset 0
    ) able
    where not exists (
      select from pg_catalog.pg_depend e
      where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = able.oid and e.deptype = 'e'
    )
  ) as able
)`;
