-- PostgreSQL lets superusers create event triggers (some hosted ones, their own administrators).

-- What an event trigger calls runs while other people's DDL does, a superuser's included. So whoever creates the
-- triggers takes over everything that they reach, where the host's own role has installed it; what that role needs to go on
-- is granted afterwards.
do $$
declare
  had name := (select nspowner::regrole from pg_catalog.pg_namespace where nspname = 'rowhouse');
  owned record;
begin
  if had = quote_ident(current_user) then
    return;
  end if;
  execute format('alter schema rowhouse owner to %I', current_user);
  for owned in
    select format('table rowhouse.%I', relname) as object from pg_catalog.pg_class
    where relnamespace = 'rowhouse'::regnamespace and relkind = 'r'
    union all
    select format('sequence rowhouse.%I', relname) from pg_catalog.pg_class
    where relnamespace = 'rowhouse'::regnamespace and relkind = 'S'
    union all
    select format('materialized view rowhouse.%I', relname) from pg_catalog.pg_class
    where relnamespace = 'rowhouse'::regnamespace and relkind = 'm'
    union all
    select format('function %s', oid::regprocedure) from pg_catalog.pg_proc
    where pronamespace = 'rowhouse'::regnamespace
  loop
    execute format('alter %s owner to %I', owned.object, current_user);
  end loop;
end
$$;

create event trigger rowhouse_ddl_command_end on ddl_command_end execute function rowhouse.on_ddl_command_end();
create event trigger rowhouse_sql_drop on sql_drop execute function rowhouse.on_sql_drop();
alter event trigger rowhouse_ddl_command_end enable always;
alter event trigger rowhouse_sql_drop enable always;
