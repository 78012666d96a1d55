-- What a command did decides what it touches, never its text: a comment may say SET SCHEMA as well, and to search a text of
-- thousands of commands for each of them takes a time that grows with the square of its length.

-- made: an object, as class and oid, that the transaction has created. It settles nothing by itself. many: so many commands
-- that their schemas are looked for in the catalogue, once, when they settle.
alter table rowhouse.schema_touch drop constraint schema_touch_kind_check;
alter table rowhouse.schema_touch
  add constraint schema_touch_kind_check check (kind in ('schema', 'granted', 'moved', 'renamed', 'made', 'many'));

drop trigger settle on rowhouse.schema_touch;
create constraint trigger settle after insert on rowhouse.schema_touch
  deferrable initially deferred for each row when (new.kind <> 'made') execute function rowhouse.settle_touches();
-- Also where a session has set session_replication_role to replica.
alter table rowhouse.schema_touch enable always trigger settle;

-- Whether a row that can be seen, and is as young as this transaction, is its own: a later transaction's that has committed is
-- as young, and of those that can be seen only our own are under way.
create function rowhouse.is_under_way(writer xid) returns boolean
language sql stable
return pg_catalog.pg_xact_status((
  pg_catalog.pg_current_xact_id()::text::bigint + pg_catalog.age(pg_catalog.pg_current_xact_id()::xid) - pg_catalog.age(writer)
)::text::xid8) = 'in progress';

revoke all on function rowhouse.is_under_way from public;

create or replace function rowhouse.on_ddl_command_end() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  command record;
  count text;
  touched oid[];
  made text[];
  granted text[];
  -- ALTER EXTENSION does not tell which objects it was given or has lost, nor ALTER LANGUAGE which functions are in it.
  moved boolean := tg_tag in ('ALTER EXTENSION', 'ALTER LANGUAGE');
begin
  if tg_tag in ('REFRESH MATERIALIZED VIEW', 'REINDEX') then
    -- They leave every definition as it is, and a refresh may come every minute. But one is the end of a restore.
    if tg_tag = 'REINDEX' or not exists (
      select from pg_event_trigger_ddl_commands() c
      join pg_class v on v.oid = c.objid and v.relname = 'restored' and v.relnamespace = 'rowhouse'::regnamespace
    ) then
      return;
    end if;
    insert into rowhouse.schema_touch (kind, name) values ('moved', 'restored') on conflict do nothing;
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

  -- From the 65th on, what ALTER commands have written is looked for in the catalogue at the end: to be told by PostgreSQL of each
  -- takes a third of what the command itself does. Not of views and functions, which CREATE OR REPLACE may take for its own. The
  -- count is a setting, which whoever runs the commands can change: either way finds the same.
  if tg_tag in (
    'ALTER TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER SEQUENCE', 'ALTER TYPE',
    'ALTER DOMAIN', 'ALTER POLICY', 'ALTER TRIGGER'
  ) then
    count := coalesce(current_setting('rowhouse.commands', true), '');
    if length(count) >= 64 then
      if not exists (
        select from rowhouse.schema_touch where transaction = pg_current_xact_id() and kind = 'many' and name = ''
      ) then
        insert into rowhouse.schema_touch (kind) values ('many');
      end if;
      return;
    end if;
    count := set_config('rowhouse.commands', count || '.', true);
  end if;

  -- Through indexes, each question by itself: as joins, or EXISTS, the planner, which takes the commands for a thousand, reads
  -- whole catalogues (2 ms a command in place of 0.2, with 22,000 relations).
  for command in
    select c.classid, c.objid, c.object_type, c.schema_name, c.command_tag, c.command_tag like 'ALTER %' as alters,
      (
        select true from rowhouse.schema_touch t
        where t.transaction = pg_current_xact_id() and t.kind = 'schema' and t.name = c.schema_name
      ) as known,
      case when c.classid = 'pg_class'::regclass then
        (select relhassubclass or relkind = 'c' from pg_class where oid = c.objid)
      end as spreads,
      case when c.command_tag like 'ALTER %' then (
        -- Whether it has come to its schema within this transaction. Its dependency on the schema is a row of its own, which is
        -- written where an object is created or moved to another schema, and nowhere else.
        select true from pg_depend d
        where d.classid = c.classid and d.objid = c.objid and d.refclassid = 'pg_namespace'::regclass
          and age(d.xmin) <= age(pg_current_xact_id()::xid)
          and rowhouse.is_under_way(d.xmin)
        limit 1
      ) end as came
    from pg_event_trigger_ddl_commands() c
  loop
    -- Most commands of a long migration.
    continue when command.known and command.alters and command.came is null and not command.spreads;
    if command.command_tag in ('GRANT', 'REVOKE') then
      granted := granted || command.object_type;
      continue;
    end if;
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
    if command.spreads then
      -- ALTER TABLE goes on to the children, ALTER TYPE … CASCADE to the tables of the type. They may be in other
      -- schemas, and are not reported.
      touched := touched || array(
        with recursive children (oid) as (
          select command.objid
          union
          select i.inhrelid from children join pg_inherits i on i.inhparent = children.oid
        )
        select c.relnamespace from children join pg_class c using (oid)
      ) || array(
        select c.relnamespace from pg_class type
          join pg_depend d on d.refclassid = 'pg_type'::regclass and d.refobjid = type.reltype
          join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid and c.reloftype = type.reltype
        where type.oid = command.objid and type.relkind = 'c'
      );
    end if;
    if command.came then
      -- SET SCHEMA reports where the object is now, not where it was. Where it was created in this transaction that schema
      -- has been touched anyway.
      moved := moved or not (
        concat(command.classid, ' ', command.objid) = any (coalesce(made, '{}')) or exists (
          select from rowhouse.schema_touch t where t.transaction = pg_current_xact_id()
            and t.kind = 'made' and t.name = concat(command.classid, ' ', command.objid)
        )
      );
    -- An index has no schema but its table's, and ALTER INDEX cannot move it.
    elsif command.object_type <> 'index' and (command.command_tag like 'CREATE %' or command.command_tag = 'SELECT INTO')
      -- ALTER TABLE moves views as well; one that was there has columns from before.
      and not (command.object_type = 'view' and exists (
        select from pg_attribute where attrelid = command.objid and age(xmin) > age(pg_current_xact_id()::xid)
      ))
    then
      made := made || concat(command.classid, ' ', command.objid);
    end if;
  end loop;

  if tg_tag = 'DROP OWNED' then
    -- It revokes too, and reports that of no object. (REASSIGN OWNED is no event at all: PostgreSQL 18.)
    granted := granted || array['TABLE', 'COLUMN', 'FUNCTION', 'TYPE', 'SCHEMA'];
  end if;

  if touched is null and granted is null and not moved and tg_tag <> 'ALTER SCHEMA' then
    return;
  end if;
  insert into rowhouse.schema_touch (kind, name)
  select 'made', object from unnest(made) as object
  -- Only beside a touch that settles, and with that clears, them.
  where exists (select from pg_namespace where oid = any (touched) and rowhouse.has_revision(nspname))
  union all
  select 'schema', nspname from pg_namespace where oid = any (touched) and rowhouse.has_revision(nspname)
  union all
  select 'granted', kind from unnest(granted) as kind
  union all
  select 'moved', '' where moved
  union all
  select 'renamed', '' where tg_tag = 'ALTER SCHEMA'
  on conflict do nothing;
end
$$;

create or replace function rowhouse.settle_touches() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  settled bigint;
  touched text[];
  granted text[];
  moved boolean;
  renamed boolean;
  restored boolean;
  many boolean;
  made text[];
  -- Rows written by this transaction and its subtransactions: their xmin is at least this old. Others may be too
  -- (committed meanwhile by later transactions): then a schema moves once more than it must.
  oldest integer := age(pg_current_xact_id()::xid);
  notifies boolean;
  changed_name text;
  changed_revision bigint;
begin
  with gone as (
    delete from rowhouse.schema_touch where transaction = pg_current_xact_id() returning kind, name
  )
  select count(*), coalesce(array_agg(name) filter (where kind = 'schema'), '{}'), array_agg(name) filter (where kind = 'granted'),
    bool_or(kind = 'moved'), bool_or(kind = 'renamed'), bool_or(kind = 'moved' and name = 'restored'),
    bool_or(kind = 'many'), coalesce(array_agg(name) filter (where kind = 'made'), '{}')
  into settled, touched, granted, moved, renamed, restored, many, made from gone;
  if settled = 0 then
    return null;
  end if;

  if granted is not null then
    -- A grant does not say whether it was for columns. pg_attribute is by far the largest catalogue: it is searched only
    -- where the transaction, as far as PostgreSQL counts that, has updated it.
    if granted && '{TABLE}' and (
      current_setting('track_counts') = 'off' or pg_stat_get_xact_tuples_updated('pg_attribute'::regclass) > 0
    ) then
      granted := granted || 'COLUMN'::text;
    end if;
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

  if many then
    touched := touched || array(
      with class as materialized (select oid, relnamespace, age(xmin) as xmin_age from pg_class),
      type as materialized (select oid, typnamespace, age(xmin) as xmin_age from pg_type)
      select nspname from pg_namespace where oid in (
        select relnamespace from class where xmin_age <= oldest
        union all
        select typnamespace from type where xmin_age <= oldest
        union all
        select pronamespace from pg_proc where age(xmin) <= oldest
        union all
        select connamespace from pg_constraint where age(xmin) <= oldest
        union all
        select relnamespace from class where oid in (
          select attrelid from pg_attribute where age(xmin) <= oldest
          union all
          select adrelid from pg_attrdef where age(xmin) <= oldest
          union all
          select indrelid from pg_index where age(xmin) <= oldest
          union all
          select ev_class from pg_rewrite where age(xmin) <= oldest
          union all
          select tgrelid from pg_trigger where age(xmin) <= oldest and not tgisinternal
          union all
          select polrelid from pg_policy where age(xmin) <= oldest
          union all
          select inhrelid from pg_inherits where age(xmin) <= oldest
          union all
          select seqrelid from pg_sequence where age(xmin) <= oldest
          union all
          select ftrelid from pg_foreign_table where age(xmin) <= oldest
        )
        union all
        select typnamespace from type where oid in (
          select enumtypid from pg_enum where age(xmin) <= oldest
          union all
          select rngtypid from pg_range where age(xmin) <= oldest
        )
      )
    );
    -- What has come to its schema within this transaction and was not created in it has left another one.
    moved := moved or exists (
      select from pg_depend d
      where d.refclassid = 'pg_namespace'::regclass and age(d.xmin) <= oldest
        and not exists (select from unnest(made) as object where object = concat(d.classid, ' ', d.objid))
        and rowhouse.is_under_way(d.xmin)
    );
    -- Where constraints are immediate this was not the end.
    perform set_config('rowhouse.commands', '', true);
  end if;

  notifies := rowhouse.may_notify();
  if restored and notifies then
    -- The table of tenants was loaded before its trigger was there.
    perform pg_notify('rowhouse_tenant', '');
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
      -- Both nextval and the clock are read once the row is locked: of two transactions the later one has the higher revision.
      insert into rowhouse.schema_revision as had (schema_name) values (changed_name)
      on conflict (schema_name) do update set number = nextval('rowhouse.revision'), changed_at = now()
      returning revision into changed_revision;
    else
      delete from rowhouse.schema_revision where schema_name = changed_name;
      continue when not found;
      changed_revision := rowhouse.revision_of(nextval('rowhouse.revision'));
    end if;
    if notifies then
      perform pg_notify('rowhouse_schema', json_build_object('schema', changed_name, 'revision', changed_revision::text)::text);
    end if;
  end loop;
  return null;
end
$$;
