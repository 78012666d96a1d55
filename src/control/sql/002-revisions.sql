-- Revisions: a number per schema that moves with every DDL command that touches the schema, in the command's own
-- transaction. The event triggers that call these functions are in event-triggers.sql: not every role may create them.

-- One sequence for all schemas: a schema dropped and created again never sees an old number again.
create sequence rowhouse.revision as bigint;

create table rowhouse.schema_revision (
  schema_name text primary key,
  revision bigint not null default nextval('rowhouse.revision'),
  changed_at timestamptz not null default now()
);

comment on table rowhouse.schema_revision is 'One row per schema; a row that is missing means that its schema is.';

-- What the transactions under way have touched. The revisions themselves move as the last act of the transaction:
-- a row lock held from the first DDL command on would make concurrent migrations of one schema wait for each other,
-- and those of several schemas deadlock. Rows live until that commit only, hence unlogged.
create unlogged table rowhouse.schema_touch (
  transaction xid8 not null default pg_current_xact_id(),
  -- schema: `name` is one. granted: `name` is a kind of object. moved: any schema may have lost an object.
  -- renamed: some schema may have another name.
  kind text not null check (kind in ('schema', 'granted', 'moved', 'renamed')),
  name text not null default '',
  primary key (transaction, kind, name)
);

-- Ours and the system's own schemas have no revision; neither has any session's pg_temp.
create function rowhouse.has_revision(schema_name text) returns boolean
language sql immutable as $$
  select schema_name !~ '^pg_' and schema_name not in ('information_schema', 'rowhouse')
$$;

create function rowhouse.on_ddl_command_end() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  command record;
  touched oid[];
  stack text;
  statements text;
  gap constant text := '(\s|/\*.*?\*/|--[^\n]*\n)';
begin
  -- They leave every definition as it is: and a refresh may come every minute.
  if tg_tag in ('REFRESH MATERIALIZED VIEW', 'REINDEX', 'ALTER DEFAULT PRIVILEGES') then
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

create function rowhouse.on_sql_drop() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- Triggers, policies, rules and column defaults have no schema, but an address that begins with their table's.
  insert into rowhouse.schema_touch (kind, name)
  select distinct 'schema', schema_name from (
    select coalesce(schema_name, address_names[1]) as schema_name
    from pg_event_trigger_dropped_objects() where not is_temporary
  ) dropped
  where rowhouse.has_revision(schema_name)
    -- Not every address begins with a schema.
    and (exists (select from rowhouse.schema_revision r where r.schema_name = dropped.schema_name)
      or exists (select from pg_namespace where nspname = dropped.schema_name))
  on conflict do nothing;
end
$$;

-- Runs at commit, for the first of the transaction's touches; the others find nothing left.
create function rowhouse.settle_touches() returns trigger
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

create constraint trigger settle after insert on rowhouse.schema_touch
  deferrable initially deferred for each row execute function rowhouse.settle_touches();
-- Also where a session has set session_replication_role to replica.
alter table rowhouse.schema_touch enable always trigger settle;

revoke all on function rowhouse.has_revision, rowhouse.on_ddl_command_end, rowhouse.on_sql_drop, rowhouse.settle_touches
  from public;
