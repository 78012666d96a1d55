/** Examines the functions in the schemas of a tenant's path. */

/**
 * SQL, after `scopeCtes`: whether `condition` holds for any function of the path's schemas; in it, `p` is the
 * function's row of `pg_proc` and `l` that of its language. Functions of extensions are left out, if a superuser
 * owns them: whoever owns an extension may add functions of his own to it. Functions
 * are found through their schemas' dependencies, so that no plan reads the bodies of all functions in the
 * database.
 */
export const anyPathFunction = (condition: string): string => `\
exists (
      select from (select oid from served union select oid from shared) path
      cross join lateral (
        select objid from pg_catalog.pg_depend
        where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = path.oid
        and classid = 'pg_catalog.pg_proc'::regclass
        offset 0
      ) d
      cross join lateral (
        select p.oid, p.proowner from pg_catalog.pg_proc p
        join pg_catalog.pg_language l on l.oid = p.prolang
        where p.oid = d.objid and ${condition}
        offset 0
      ) able
      where not exists (
        select from pg_catalog.pg_depend e
        join pg_catalog.pg_roles owner on owner.oid = able.proowner and owner.rolsuper
        where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = able.oid and e.deptype = 'e'
      )
    )`;
