/**
 * The digest that a look at the catalogue compares: one number per schema, which changes whenever something
 * in it does.
 */

/**
 * SQL that returns `name` and `digest` of each schema that can have a revision. Every change of a catalogue
 * row gives it a new xmin. pg_class is the exception: TRUNCATE, REFRESH MATERIALIZED VIEW and VACUUM FULL
 * rewrite its rows as well, so their contents are hashed instead; privileges as text, because the hash of an aclitem
 * (PostgreSQL 18) leaves out the grant options. Hashes are combined without sorting.
 */
export const digestQuery = `
  with space as materialized (
    select n.oid, n.nspname from pg_catalog.pg_namespace n
    where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'rowhouse')
  ),
  class as materialized (
    select c.oid, c.relnamespace as space, c.relkind, hash_record_extended(row(
      c.oid, c.relname, c.reltype, c.reloftype, c.relowner, c.relkind, c.relpersistence, c.relrowsecurity,
      c.relforcerowsecurity, c.relispartition, c.reloptions, c.relacl::text
    ), 1) as h
    from pg_catalog.pg_class c
    where c.relkind <> 't' and c.relnamespace in (select oid from space)
  ),
  type as materialized (
    -- Array types come and go with their element types.
    select t.oid, t.typnamespace as space, hash_record_extended(row(t.oid, t.xmin), 2) as h
    from pg_catalog.pg_type t
    where t.typnamespace in (select oid from space) and not (t.typtype = 'b' and t.typelem <> 0)
  ),
  routine as materialized (
    select p.oid, p.pronamespace as space, hash_record_extended(row(p.oid, p.xmin, l.xmin), 3) as h
    from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
    where p.pronamespace in (select oid from space)
  ),
  bound as materialized (
    select k.oid, k.connamespace as space, hash_record_extended(row(k.oid, k.xmin), 4) as h
    from pg_catalog.pg_constraint k where k.connamespace in (select oid from space)
  ),
  policy as materialized (
    select p.oid, c.space, hash_record_extended(row(p.oid, p.xmin), 5) as h
    from pg_catalog.pg_policy p join class c on c.oid = p.polrelid
  ),
  object (classid, oid, space) as (
    select 'pg_catalog.pg_class'::regclass, oid, space from class
    union all select 'pg_catalog.pg_type'::regclass, oid, space from type
    union all select 'pg_catalog.pg_proc'::regclass, oid, space from routine
    union all select 'pg_catalog.pg_constraint'::regclass, oid, space from bound
    union all select 'pg_catalog.pg_policy'::regclass, oid, space from policy
    union all select 'pg_catalog.pg_namespace'::regclass, oid, oid from space
  ),
  part (space, h) as (
    select n.oid, hash_record_extended(row(n.oid, n.xmin), 6)
      from pg_catalog.pg_namespace n where n.oid in (select oid from space)
    union all select space, h from class
    union all select space, h from type
    union all select space, h from routine
    union all select space, h from bound
    union all select space, h from policy
    union all select c.space, hash_record_extended(row(a.attrelid, a.attnum, a.xmin), 7)
      from pg_catalog.pg_attribute a join class c on c.oid = a.attrelid
      where a.attnum > 0 and c.relkind not in ('S', 'i', 'I')
    union all select c.space, hash_record_extended(row(d.oid, d.xmin), 8)
      from pg_catalog.pg_attrdef d join class c on c.oid = d.adrelid
    union all select c.space, hash_record_extended(row(i.indexrelid, i.xmin), 9)
      from pg_catalog.pg_index i join class c on c.oid = i.indrelid
    union all select c.space, hash_record_extended(row(r.oid, r.xmin), 10)
      from pg_catalog.pg_rewrite r join class c on c.oid = r.ev_class
    union all select c.space, hash_record_extended(row(t.oid, t.xmin), 11)
      from pg_catalog.pg_trigger t join class c on c.oid = t.tgrelid
      -- Foreign-key triggers belong to the referring table and are no change of this one.
      where not t.tgisinternal
    union all select c.space, hash_record_extended(row(i.inhrelid, i.inhparent, i.xmin), 12)
      from pg_catalog.pg_inherits i join class c on c.oid = i.inhrelid
    union all select c.space, hash_record_extended(row(f.ftrelid, f.xmin), 13)
      from pg_catalog.pg_foreign_table f join class c on c.oid = f.ftrelid
    union all select t.space, hash_record_extended(row(e.oid, e.xmin), 14)
      from pg_catalog.pg_enum e join type t on t.oid = e.enumtypid
    union all select t.space, hash_record_extended(row(r.rngtypid, r.xmin), 15)
      from pg_catalog.pg_range r join type t on t.oid = r.rngtypid
    union all select o.oprnamespace, hash_record_extended(row(o.oid, o.xmin), 16)
      from pg_catalog.pg_operator o where o.oprnamespace in (select oid from space)
    union all select e.extnamespace, hash_record_extended(row(e.oid, e.xmin), 17)
      from pg_catalog.pg_extension e where e.extnamespace in (select oid from space)
    -- Members of extensions.
    union all select o.space, hash_record_extended(row(d.classid, d.objid, d.xmin), 18)
      from pg_catalog.pg_depend d join object o on o.classid = d.classid and o.oid = d.objid
      where d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
    union all select o.space, hash_record_extended(row(d.classoid, d.objoid, d.objsubid, d.xmin), 19)
      from pg_catalog.pg_description d join object o on o.classid = d.classoid and o.oid = d.objoid
  )
  select s.nspname::text as name, bit_xor(part.h) as digest
  from part join space s on s.oid = part.space group by 1`;
