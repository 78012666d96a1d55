-- What a tenant's schemas refer to in others is part of its shape, and its revisions part of what a write proves.

do $patch$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values (
      'rowhouse.on_ddl_command_end()',
      $$  if tg_tag = 'ALTER SCHEMA' then
$$,
      $$  if tg_tag in ('ALTER EXTENSION', 'ALTER LANGUAGE') then
    -- Neither tells which objects it concerns: those that an extension was given or has lost, the language's functions.
    insert into rowhouse.schema_touch (kind) values ('moved') on conflict do nothing;
  end if;

  if tg_tag = 'ALTER SCHEMA' then
$$
    ), (
      'rowhouse.settle_touches()',
      $$      where moved or (renamed and not exists (select from pg_namespace where nspname = r.schema_name))
$$,
      -- Also those that have had no revision yet: an object may have left one.
      $$      where moved or (renamed and not exists (select from pg_namespace where nspname = r.schema_name))
      union
      select nspname from pg_namespace where moved
$$
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
