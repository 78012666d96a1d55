/**
 * Which objects in PostgreSQL's catalogue belong to a tenant: the one definition shared by introspection and
 * shape hash.
 */

/**
 * SQL, for use after `with recursive`: the common table expressions that determine which objects are in
 * scope.
 *
 * Parameters: `$1::text[]` the served physical schemas in order, `$2::text[]` their logical names,
 * `$3::text[]` the shared schemas in order. A schema that does not exist is left out.
 *
 * - `served(oid, logical, ord)`, `shared(oid, name, ord)`: the namespaces; `scope_namespace(oid)`: those, and
 *   that of every object in scope
 * - `scope_class(oid)`: tables, views, composite types, sequences and indexes; `scope_type(oid)`;
 *   `scope_proc(oid)`
 * - `scope_extension(oid)`: extensions that own something in scope
 *
 * In scope are the objects in served schemas and everything that they reference, transitively: column,
 * argument and result types (elements, domains' bases, ranges' subtypes, composites' columns), the targets of
 * foreign keys (real ones, and those declared by `@foreignKey` and `@type references:`), inheritance parents,
 * and the tables behind enum domains. A shared schema only serves name resolution: PostGraphile ignores an
 * object outside `pgServices.schemas` that no served object references, even a function that takes a shared
 * table's row. Children (partitions) are not followed: nothing is read of a child that is not served itself,
 * and a shared table may have thousands.
 *
 * pg_class, pg_type and pg_proc have no index that begins with the namespace; pg_depend has one on the
 * referenced object, and every object depends on its schema. `offset 0` keeps each lookup a parameterised
 * index scan whatever the statistics say: flattened, they become hash joins over the whole catalogue.
 */
export const scopeCtes = `\
served as materialized (
  select n.oid, binding.logical, binding.ord
  from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality as binding(physical, logical, ord)
  cross join lateral (select oid from pg_catalog.pg_namespace where nspname = binding.physical offset 0) n
),
shared as materialized (
  select n.oid, binding.name, binding.ord
  from pg_catalog.unnest($3::text[]) with ordinality as binding(name, ord)
  cross join lateral (select oid from pg_catalog.pg_namespace where nspname = binding.name offset 0) n
),
-- Schemas that pg-introspection never reads, whatever refers to them; from pg_catalog it reads only types.
hidden_namespace as materialized (
  -- "pg\\_%" as a range, which uses the index: there may be ten thousand other schemas.
  select oid from pg_catalog.pg_namespace where nspname >= 'pg_' and nspname < 'pg\`'
  union all
  select oid from pg_catalog.pg_namespace where nspname = 'information_schema'
),
own_object as materialized (
  select d.classid, d.objid, served.oid as namespace
  from served
  cross join lateral (
    select distinct classid, objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = served.oid
    offset 0
  ) d
  where served.oid not in (select oid from hidden_namespace)
),
own_proc as materialized (
  select p.oid, p.prorettype, p.argument_types
  from own_object
  cross join lateral (
    select oid, prorettype, coalesce(proallargtypes, proargtypes::oid[]) as argument_types
    from pg_catalog.pg_proc
    where oid = own_object.objid and pronamespace = own_object.namespace
    -- Trigger functions are not part of an API.
    and prorettype operator(pg_catalog.<>) 'pg_catalog.trigger'::regtype
    offset 0
  ) p
  where own_object.classid = 'pg_catalog.pg_proc'::regclass
),
-- kind: 'relation' has columns; 'index' and 'sequence' are rows of pg_class too; 'type' is one of pg_type.
reached(kind, oid, namespace) as (
  select node.kind, node.oid, node.namespace
  from own_object
  cross join lateral (
    select case relkind when 'i' then 'index' when 'I' then 'index' when 'S' then 'sequence' else 'relation' end,
      oid, relnamespace
    from pg_catalog.pg_class
    where own_object.classid = 'pg_catalog.pg_class'::regclass and oid = own_object.objid
    and relnamespace = own_object.namespace
    union all
    select 'type', oid, typnamespace
    from pg_catalog.pg_type
    where own_object.classid = 'pg_catalog.pg_type'::regclass and oid = own_object.objid
    and typnamespace = own_object.namespace
    offset 0
  ) as node(kind, oid, namespace)
  union
  select 'type', t.oid, t.typnamespace
  from (
    select prorettype as oid from own_proc
    union
    select pg_catalog.unnest(argument_types) from own_proc
  ) mentioned
  cross join lateral (select oid, typnamespace from pg_catalog.pg_type where oid = mentioned.oid offset 0) t
  where t.typnamespace = 'pg_catalog'::regnamespace or t.typnamespace not in (select oid from hidden_namespace)
  union
  select node.kind, node.oid, node.namespace
  from reached
  cross join lateral (
    select 'type' as kind, atttypid as oid
    from pg_catalog.pg_attribute
    where reached.kind = 'relation' and attrelid = reached.oid and attnum > 0 and not attisdropped
    union all
    select 'type', pg_catalog.unnest(array[reltype, reloftype])
    from pg_catalog.pg_class
    where reached.kind = 'relation' and oid = reached.oid
    union all
    select 'class', confrelid
    from pg_catalog.pg_constraint
    where reached.kind = 'relation' and conrelid = reached.oid and contype = 'f'
    union all
    select 'class', inhparent
    from pg_catalog.pg_inherits
    where reached.kind = 'relation' and inhrelid = reached.oid
    union all
    -- "@foreignKey (a) references other.b (c)" and "@type x references:other.b": a build fails without the target.
    -- An unquoted name with spaces is not recognised here, and such a build fails.
    select 'class', target.oid
    from pg_catalog.pg_class
    cross join lateral (
      select description from (
        select description from pg_catalog.pg_description
        where objoid = pg_class.oid and classoid = 'pg_catalog.pg_class'::regclass and objsubid = 0
        union all
        select description from pg_catalog.pg_description
        where objoid = pg_class.reltype and classoid = 'pg_catalog.pg_type'::regclass and objsubid = 0
      ) of_either
      where description ~* '@.*references'
      offset 0
    ) d
    cross join lateral pg_catalog.regexp_matches(
      d.description,
      'references[:[:space:]]\\s*("[^"\\n]+"|[^\\s"().|]+)(?:\\s*\\.\\s*("[^"\\n]+"|[^\\s"().|]+))?', 'gi'
    ) as written(parts)
    cross join lateral (
      select pg_catalog.array_agg(case when part like '"%' then pg_catalog.btrim(part, '"') else pg_catalog.lower(part) end) as parts
      from pg_catalog.unnest(written.parts) as part
      where part is not null
    ) name
    cross join lateral (
      select c.oid from pg_catalog.pg_class c
      where c.relname = name.parts[pg_catalog.cardinality(name.parts)] and c.relnamespace = case
        when pg_catalog.cardinality(name.parts) = 1 then reached.namespace
        else coalesce(
          -- As in a build: a served schema goes by its logical name, and no other schema does.
          (select served.oid from served where served.logical = name.parts[1]),
          (select oid from pg_catalog.pg_namespace where nspname = name.parts[1])
        )
      end
      offset 0
    ) target
    where reached.kind = 'relation' and pg_class.oid = reached.oid
    union all
    select v.kind, v.oid
    from pg_catalog.pg_type
    cross join lateral (values
      ('type', typelem), ('type', typbasetype), ('class', typrelid),
      -- PostGraphile goes from an array to its element, never the other way, so only served schemas need their array types.
      ('type', case when reached.namespace in (select oid from served) then typarray end)
    ) v(kind, oid)
    where reached.kind = 'type' and pg_type.oid = reached.oid
    union all
    -- A multirange is found through its constructor functions.
    select 'type', rngsubtype
    from pg_catalog.pg_range
    where reached.kind = 'type' and rngtypid = reached.oid
    union all
    -- A domain is linked by name to the enum table in its schema, or to that table and a constraint of it.
    select 'class', c.oid
    from pg_catalog.pg_type t
    cross join lateral (
      select coalesce(
        pg_catalog.substring(
          pg_catalog.obj_description(t.oid, 'pg_type'), '(?n)^@enum[[:space:]]+([^[:space:]]+)'
        ),
        pg_catalog.substring(t.typname::text, '^(.+)_enum_domain$')
      ) as identifier
    ) tied
    cross join lateral pg_catalog.string_to_array(tied.identifier, '_') as parts
    cross join lateral pg_catalog.unnest(array(select pg_catalog.generate_subscripts(parts, 1))) as length
    cross join lateral (
      select oid from pg_catalog.pg_class
      where relname = pg_catalog.array_to_string(parts[1:length], '_') and relnamespace = reached.namespace
      offset 0
    ) c
    where reached.kind = 'type' and t.oid = reached.oid and t.typtype = 'd'
    offset 0
  ) step
  cross join lateral (
    select case relkind when 'i' then 'index' when 'I' then 'index' when 'S' then 'sequence' else 'relation' end,
      oid, relnamespace
    from pg_catalog.pg_class
    where step.kind = 'class' and oid = step.oid and relnamespace not in (select oid from hidden_namespace)
    union all
    select 'type', oid, typnamespace
    from pg_catalog.pg_type
    where step.kind = 'type' and oid = step.oid and (
      typnamespace = 'pg_catalog'::regnamespace or typnamespace not in (select oid from hidden_namespace)
    )
    offset 0
  ) as node(kind, oid, namespace)
  -- Other kinds refer to nothing.
  where reached.kind in ('relation', 'type')
  -- True for every row. Without it the planner expects millions of rows, whose hash tables cost more than the query.
  and step.kind in ('class', 'type') and node.kind in ('relation', 'index', 'sequence', 'type')
),
scope_class as materialized (
  select oid from reached where kind <> 'type'
  union
  select indexrelid from pg_catalog.pg_index where indrelid = any (array(select oid from reached where kind = 'relation'))
),
scope_type as materialized (select oid from reached where kind = 'type'),
scope_proc as materialized (select oid from own_proc),
scope_namespace as materialized (
  select oid from served union select oid from shared union select namespace from reached
),
scope_extension as materialized (
  select distinct d.refobjid as oid
  from (
    select 'pg_catalog.pg_class'::regclass as classid, oid from scope_class
    union all select 'pg_catalog.pg_type'::regclass, oid from scope_type
    union all select 'pg_catalog.pg_proc'::regclass, oid from scope_proc
  ) member
  cross join lateral (
    select refobjid from pg_catalog.pg_depend
    where classid = member.classid and objid = member.oid and deptype = 'e'
    and refclassid = 'pg_catalog.pg_extension'::regclass
    offset 0
  ) d
)`;
