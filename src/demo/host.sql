-- Once per database: the role that the host connects as, and what the tenants share. Runs at every start.
do $$
begin
  if not exists (select from pg_roles where rolname = 'rowhouse_demo') then
    create role rowhouse_demo login noinherit;
  end if;
  execute format('alter role rowhouse_demo password %L', current_setting('demo.password'));
  execute format('revoke all on database %I from public', current_database());
  execute format('grant connect on database %I to rowhouse_demo', current_database());
end
$$;

create schema if not exists extensions;
grant usage on schema extensions to public;
create extension if not exists pgcrypto schema extensions;

grant usage on schema rowhouse to rowhouse_demo;
grant select on rowhouse.migration, rowhouse.schema_revision, rowhouse.tenant, rowhouse.tenant_host to rowhouse_demo;
grant select on rowhouse.event, rowhouse.realtime_host to rowhouse_demo;
grant execute on function rowhouse.tenant_lock_key, rowhouse.register_realtime, rowhouse.unregister_realtime,
  rowhouse.sweep_events to rowhouse_demo;
