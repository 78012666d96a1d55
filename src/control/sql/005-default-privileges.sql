-- ALTER DEFAULT PRIVILEGES IN SCHEMA moves the revision of that schema: it changes nothing that is there, but what is
-- created next is another thing for it. What it sets for all schemas is of none. PostgreSQL reports the command without
-- its schema: where there are default privileges, their rows are new; where there are none any more, they were dropped.
do $patch$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values (
      'rowhouse.on_ddl_command_end()',
      $$  if tg_tag in ('REFRESH MATERIALIZED VIEW', 'REINDEX', 'ALTER DEFAULT PRIVILEGES') then
    return;
  end if;
$$,
      $$  if tg_tag in ('REFRESH MATERIALIZED VIEW', 'REINDEX') then
    return;
  end if;
  if tg_tag = 'ALTER DEFAULT PRIVILEGES' then
    -- As old as this transaction: another's may be, too, and then a schema moves once more than it must.
    insert into rowhouse.schema_touch (kind, name)
    select distinct 'schema', n.nspname from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace
    where age(d.xmin) <= age(pg_current_xact_id()::xid) and rowhouse.has_revision(n.nspname)
    on conflict do nothing;
    return;
  end if;
$$
    ), (
      'rowhouse.on_sql_drop()',
      $$coalesce(schema_name, address_names[1]) as schema_name$$,
      -- Their address is the role, and then the schema.
      $$coalesce(schema_name, address_names[case object_type when 'default acl' then 2 else 1 end]) as schema_name$$
    )) as changes (function, old, new)
  loop
    definition := pg_get_functiondef(change.function::regprocedure);
    if position(change.old in definition) = 0 then
      raise exception '% is not the one that this was written for', change.function;
    end if;
    execute replace(definition, change.old, change.new);
  end loop;
end
$patch$;
