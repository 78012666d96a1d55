/** The schemas whose revisions prove that a shape is still valid. */

/**
 * SQL, after `labelCtes`: `proven(name)`, every schema that affects the shape: the served and shared ones,
 * whether they exist or not, and those of everything else in scope. Schemas of PostgreSQL and of the control
 * schema have no revision.
 *
 * Whether a view can be updated (`pg_relation_is_updatable`) depends on the views and foreign tables under
 * it, which are in scope only if something else refers to them.
 */
export const provenCtes = `\
view_base(oid, namespace) as (
  select oid, relnamespace from spelled_class where relkind = 'v'
  union
  select base.oid, base.relnamespace
  from view_base
  cross join lateral (
    select c.oid, c.relnamespace
    from pg_catalog.pg_rewrite r
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass
    join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind in ('v', 'f')
    where r.ev_class = view_base.oid
    offset 0
  ) base
  where base.relnamespace not in (select oid from hidden_namespace)
),
proven(name) as materialized (
  select name from pg_catalog.unnest(pg_catalog.array_cat($1::text[], $3::text[])) as name
  union
  -- With the collation of text, which the look-up of a revision uses.
  select nspname::text collate "default" from pg_catalog.pg_namespace
  where oid = any (array(select oid from scope_namespace union select namespace from view_base))
  and oid not in (select oid from hidden_namespace) and nspname <> 'rowhouse'
)`;
