-- What a tenant's schemas refer to in others is part of its shape, and its revisions part of what a write proves.

create or replace function rowhouse.on_ddl_command_end() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  command record;
  touched oid[];
  stack text;
  statements text;
  gap constant text := '(\s|/\*.*?\*/|--[^\n]*\n)';
begin
  -- They leave every definition as it is: and a refresh may come every minute.
  if tg_tag in ('REFRESH MATERIALIZED VIEW', 'REINDEX') then
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

  -- One by one, through indexes: as one join the planner, which takes the commands for a thousand, reads all of
  -- pg_class (2 ms a command in place of 0.2, with 22,000 relations).
  for command in
    select classid, objid, min(schema_name) as schema_name from pg_event_trigger_ddl_commands() group by 1, 2
  loop
    touched := touched || case command.classid
      when 'pg_namespace'::regclass then command.objid
      -- These have no schema of their own, and are reported without one.
      when 'pg_trigger'::regclass then
        (select relnamespace from pg_class where oid = (select tgrelid from pg_trigger where oid = command.objid))
      when 'pg_policy'::regclass then
        (select relnamespace from pg_class where oid = (select polrelid from pg_policy where oid = command.objid))
      when 'pg_rewrite'::regclass then
        (select relnamespace from pg_class where oid = (select ev_class from pg_rewrite where oid = command.objid))
      when 'pg_extension'::regclass then (select extnamespace from pg_extension where oid = command.objid)
      else (select oid from pg_namespace where nspname = command.schema_name)
    end;
    if command.classid = 'pg_class'::regclass then
      -- ALTER TABLE goes on to the children, ALTER TYPE … CASCADE to the tables of the type. They may be in other
      -- schemas, and are not reported.
      if exists (select from pg_inherits where inhparent = command.objid) then
        touched := touched || array(
          with recursive children (oid) as (
            select command.objid
            union
            select i.inhrelid from children join pg_inherits i on i.inhparent = children.oid
          )
          select c.relnamespace from children join pg_class c using (oid)
        );
      end if;
      touched := touched || array(
        select c.relnamespace from pg_class type
          join pg_depend d on d.refclassid = 'pg_type'::regclass and d.refobjid = type.reltype
          join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid and c.reloftype = type.reltype
        where type.oid = command.objid and type.relkind = 'c'
      );
    end if;
  end loop;

  insert into rowhouse.schema_touch (kind, name)
  select 'schema', nspname from pg_namespace where oid = any (touched) and rowhouse.has_revision(nspname)
  on conflict do nothing;

  if tg_tag in ('ALTER EXTENSION', 'ALTER LANGUAGE') then
    -- Neither tells which objects it concerns: those that an extension was given or has lost, the language's functions.
    insert into rowhouse.schema_touch (kind) values ('moved') on conflict do nothing;
  end if;

  if tg_tag = 'ALTER SCHEMA' then
    insert into rowhouse.schema_touch (kind) values ('renamed') on conflict do nothing;
  elsif tg_tag = 'DROP OWNED' then
    -- It revokes too, and reports that of no object. (REASSIGN OWNED is no event at all: PostgreSQL 18.)
    insert into rowhouse.schema_touch (kind, name)
    select 'granted', unnest(array['TABLE', 'COLUMN', 'FUNCTION', 'TYPE', 'SCHEMA']) on conflict do nothing;
  end if;

  if tg_tag like 'ALTER %' or exists (
    select from pg_event_trigger_ddl_commands() where command_tag in ('GRANT', 'REVOKE')
  ) then
    -- What the client sent, and the statements inside the functions that it called.
    get diagnostics stack = pg_context;
    statements := concat(current_query(), E'\n', stack);
    -- SET SCHEMA reports where the object is now, not where it was. (SET SCHEMA 'x' is another command.)
    if tg_tag like 'ALTER %' and statements ~* ('\mset' || gap || '+schema\M' || gap || '*[^''\s]') then
      insert into rowhouse.schema_touch (kind) values ('moved') on conflict do nothing;
    end if;
    insert into rowhouse.schema_touch (kind, name)
    select 'granted', object_type from pg_event_trigger_ddl_commands() where command_tag in ('GRANT', 'REVOKE')
    union
    -- pg_attribute is by far the largest catalogue: it is searched only where columns may have been granted.
    select 'granted', 'COLUMN' from pg_event_trigger_ddl_commands()
    where command_tag in ('GRANT', 'REVOKE')
      and statements ~* ('\m(select|insert|update|references|all|privileges)' || gap || '*\(')
    on conflict do nothing;
  end if;
end
$$;

create or replace function rowhouse.settle_touches() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  touched text[];
  granted text[];
  moved boolean;
  renamed boolean;
  -- Rows written by this transaction and its subtransactions: their xmin is at least this old. Others may be too
  -- (committed meanwhile by later transactions): then a schema moves once more than it must.
  oldest integer := age(pg_current_xact_id()::xid);
  changed_name text;
  changed_revision bigint;
begin
  with gone as (
    delete from rowhouse.schema_touch where transaction = pg_current_xact_id() returning kind, name
  )
  select coalesce(array_agg(name) filter (where kind = 'schema'), '{}'), array_agg(name) filter (where kind = 'granted'),
    bool_or(kind = 'moved'), bool_or(kind = 'renamed')
  into touched, granted, moved, renamed from gone;

  if granted is not null then
    touched := touched || array(
      select nspname from pg_namespace where oid in (
        select relnamespace from pg_class where granted && '{TABLE,SEQUENCE}' and age(xmin) <= oldest
        union all
        select relnamespace from pg_attribute a join pg_class c on c.oid = a.attrelid
        where granted && '{COLUMN}' and age(a.xmin) <= oldest
        union all
        select pronamespace from pg_proc where granted && '{FUNCTION,PROCEDURE,ROUTINE}' and age(xmin) <= oldest
        union all
        select typnamespace from pg_type where granted && '{TYPE,DOMAIN}' and age(xmin) <= oldest
        union all
        select oid from pg_namespace where granted && '{SCHEMA}' and age(xmin) <= oldest
      )
    );
  end if;

  -- In the order of names, so that transactions that settle at the same time wait and never deadlock.
  for changed_name in
    select name from (
      select unnest(touched) as name
      union
      select schema_name from rowhouse.schema_revision r
      where moved or (renamed and not exists (select from pg_namespace where nspname = r.schema_name))
      union
      -- Also those that have had no revision yet: an object may have left one.
      select nspname from pg_namespace where moved
    ) changed
    where rowhouse.has_revision(name) order by name
  loop
    if exists (select from pg_namespace where nspname = changed_name) then
      -- nextval runs once the row is locked: of two transactions the later one has the higher number.
      insert into rowhouse.schema_revision as had (schema_name) values (changed_name)
      on conflict (schema_name) do update set revision = nextval('rowhouse.revision'), changed_at = now()
      returning revision into changed_revision;
    else
      delete from rowhouse.schema_revision where schema_name = changed_name;
      continue when not found;
      changed_revision := nextval('rowhouse.revision');
    end if;
    perform pg_notify('rowhouse_schema', json_build_object('schema', changed_name, 'revision', changed_revision::text)::text);
  end loop;
  return null;
end
$$;

-- The tenant's lock: writes hold it shared, a managed migration exclusively, so that the one waits for the others in place
-- of failing them. It is a courtesy and no proof, that is the revisions'; but whoever held another tenant's lock held up its
-- writes. So its key is a secret, and one that is copied from pg_locks, where it shows while it is held, is of no use.

create table rowhouse.lock_secret (
  single boolean primary key default true check (single),
  secret bytea not null default uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
-- Without a policy, for the owner alone: "grant select on all tables in schema rowhouse" is what hosts' roles are given.
alter table rowhouse.lock_secret enable row level security;
insert into rowhouse.lock_secret default values;

comment on table rowhouse.lock_secret is 'What the keys of tenants'' locks are made with.';

create or replace function rowhouse.tenant_lock_key(tenant text) returns bigint
language plpgsql stable strict security definer set search_path = pg_catalog, pg_temp as $$
declare
  known bytea;
begin
  select secret into strict known from rowhouse.lock_secret;
  return ('x' || encode(substr(sha256(known || convert_to(tenant, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint;
end
$$;

comment on function rowhouse.tenant_lock_key is 'Advisory lock of a tenant: writes hold it shared, a managed migration exclusively. For hosts and those who migrate alone.';

-- Held by migrations, in ROW EXCLUSIVE mode, which no other migration minds and nobody may take who has no right to write there.
create table rowhouse.migrating ();

comment on table rowhouse.migrating is 'Locked by managed migrations, to be told from whoever else holds a tenant''s lock. It has no rows.';

-- Who holds the lock of that key, or waits for it.
create function rowhouse.lock_holders(key bigint) returns table (pid integer, exclusive boolean, waits boolean, migrates boolean)
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select l.pid,
    bool_or(l.locktype = 'advisory' and l.mode = 'ExclusiveLock'),
    bool_or(l.locktype = 'advisory' and not l.granted),
    bool_or(l.locktype = 'relation')
  from pg_locks l
  where l.database = (select oid from pg_database where datname = current_database()) and case l.locktype
    when 'advisory' then l.objsubid = 1
      and l.classid = ((key >> 32) & 4294967295)::oid and l.objid = (key & 4294967295)::oid
    when 'relation' then l.relation = 'rowhouse.migrating'::regclass and l.mode = 'RowExclusiveLock' and l.granted
    else false
  end
  group by l.pid having bool_or(l.locktype = 'advisory')
$$;

-- What a write does where its tenant's lock is not free at once: waits for it as long as a migration has it or waits for it, and
-- goes on without it otherwise. In slices, as somebody else may have come between the two, and their end is not waited for.
create function rowhouse.await_migration(key bigint) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
  patience constant text := current_setting('lock_timeout');
  -- 0: as long as it takes.
  patience_ms constant numeric := 1000 * extract(epoch from patience::interval);
  began constant timestamptz := clock_timestamp();
  slice_ms integer := 100;
begin
  loop
    if pg_try_advisory_xact_lock_shared(key) then
      return;
    end if;
    if not exists (select from rowhouse.lock_holders(key) h where h.exclusive and h.migrates) then
      return;
    end if;
    begin
      perform set_config('lock_timeout', slice_ms::text, true);
      perform pg_advisory_xact_lock_shared(key);
      perform set_config('lock_timeout', patience, true);
      return;
    exception when lock_not_available then
      if patience_ms > 0 and 1000 * extract(epoch from clock_timestamp() - began) >= patience_ms then
        raise;
      end if;
    end;
    slice_ms := least(2 * slice_ms, 800);
  end loop;
end
$$;

comment on function rowhouse.await_migration is 'Takes the lock of that key, shared, unless somebody holds it who is no migration.';

create or replace function rowhouse.begin_write(tenant text, schemas text[], revisions bigint[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- A lock of no key is none, without a word.
  if tenant is null then
    raise null_value_not_allowed using message = 'begin_write needs a tenant';
  end if;
  perform rowhouse.await_migration(rowhouse.tenant_lock_key(tenant));
  -- A statement of its own: its snapshot comes after the wait, and so has what was waited for.
  perform rowhouse.assert_revisions(schemas, revisions);
end
$$;

-- The first statement of a managed migration. It never goes on without the lock, which keeps migrations of one tenant apart.
create function rowhouse.lock_tenant(tenant text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  key bigint;
begin
  if tenant is null then
    raise null_value_not_allowed using message = 'lock_tenant needs a tenant';
  end if;
  key := rowhouse.tenant_lock_key(tenant);
  -- First, so that whoever sees it waiting knows what it is.
  lock table rowhouse.migrating in row exclusive mode;
  begin
    perform pg_advisory_xact_lock(key);
  exception when lock_not_available then
    raise lock_not_available using message = 'the lock of the tenant is not free', detail = coalesce((
      select string_agg(said, '; ' order by pid) from (
        select h.pid, format('pid %s (%s) %s it%s', h.pid, concat_ws(', ', a.usename, nullif(a.application_name, '')),
          case when h.waits then 'waits for' else 'holds' end,
          case
            when not h.exclusive then ', shared'
            when h.migrates then ', to migrate'
            else ', exclusively, and is no migration'
          end
        ) as said
        from rowhouse.lock_holders(key) h left join pg_stat_activity a using (pid)
        where h.pid <> pg_backend_pid() order by h.waits, h.pid limit 5
      ) others
    ), '');
  end;
end
$$;

comment on function rowhouse.lock_tenant is 'Takes a tenant''s lock, as a managed migration, until the end of the transaction.';

revoke all on function rowhouse.tenant_lock_key, rowhouse.lock_tenant from public;

-- For those who are there already: whoever may use the schema is a host or migrates, and who may note that it did migrates.
do $$
declare
  known regrole;
begin
  for known in
    select distinct a.grantee::regrole from pg_namespace n cross join aclexplode(n.nspacl) a
    where n.nspname = 'rowhouse' and a.privilege_type = 'USAGE' and a.grantee not in (0, n.nspowner)
  loop
    execute format('grant execute on function rowhouse.tenant_lock_key to %s', known);
  end loop;
  for known in
    select distinct a.grantee::regrole from pg_class c cross join aclexplode(c.relacl) a
    where c.oid = 'rowhouse.applied'::regclass and a.privilege_type = 'INSERT' and a.grantee not in (0, c.relowner)
  loop
    execute format('grant execute on function rowhouse.lock_tenant to %s', known);
  end loop;
end
$$;
