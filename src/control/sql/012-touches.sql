-- Each command asks whether its transaction has noted already what it touches. To the planner the table of touches is empty, but
-- it is full of rows that are gone or the transaction's own: to scan it takes a time that grows with every command. So it is
-- asked through its index only, and first of all at the place where a row was that the transaction has found before. The place
-- stands in a setting, which anybody can change, and gains nothing by it: the row that is read there has to be of this
-- transaction. One that was undone with a savepoint, or that has been settled, is not there to be read.

-- A table that waits for its deferred triggers cannot be altered: an older migration in this transaction may have touched something.
set constraints all immediate;
set constraints all deferred;

-- Only the functions here write to the table. PostgreSQL prepares the expression anew for every INSERT, which takes longer than
-- all the rest of one.
alter table rowhouse.schema_touch drop constraint schema_touch_kind_check;

-- A function of its own, as the catalogue is scanned where it is used.
create function rowhouse.take_touches() returns table (kind text, name text)
language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
  return query
    delete from rowhouse.schema_touch t where t.transaction = pg_current_xact_id() returning t.kind, t.name;
end
$$;

-- Notes touches, each given as its kind, a blank and its name, and in a setting, if any, where the first of them is. Where
-- constraints are immediate they are settled within this; may_notify then looks for words in all statements that have led there.
create function rowhouse.note_touches(touches text[], setting text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  place text;
begin
  insert into rowhouse.schema_touch (kind, name)
  select split_part(touch, ' ', 1), substr(touch, position(' ' in touch) + 1) from unnest(touches) as touch
  union
  -- Another session may give the schema another name before this is settled.
  select 'space', n.oid::text from unnest(touches) as touch join pg_namespace n on touch = 'schema ' || n.nspname
  on conflict do nothing;
  -- Where constraints are immediate it has been settled, and is gone, by now.
  select ctid::text into place from rowhouse.schema_touch
  where transaction = pg_current_xact_id()
    and kind = split_part(touches[1], ' ', 1) and name = substr(touches[1], position(' ' in touches[1]) + 1);
  if found and setting is not null then
    perform set_config(setting, place, true);
  end if;
end
$$;

create function rowhouse.note_default_privileges() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = on as $$
begin
  -- As old as this transaction: another's may be, too, and then a schema moves once more than it must.
  insert into rowhouse.schema_touch (kind, name)
  select distinct 'schema', n.nspname from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace
  where age(d.xmin) <= age(pg_current_xact_id()::xid) and rowhouse.has_revision(n.nspname)
  on conflict do nothing;
end
$$;

revoke all on function rowhouse.take_touches, rowhouse.note_touches, rowhouse.note_default_privileges from public;

create or replace function rowhouse.on_ddl_command_end() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  command record;
  hint text;
  known text;
  object text;
  spaces oid[];
  made text[];
  touches text[];
  moved boolean;
begin
  -- From the 65th on, what ALTER commands have written is looked for in the catalogue at the end: to be told by PostgreSQL of each
  -- takes a third of what the command itself does. Not of views and functions, which CREATE OR REPLACE may take for its own. The
  -- setting holds a dot for each command, then where it is noted that there are many; whatever somebody makes of it, the same is
  -- found. A table that leaves its parent need not have a row that says so: where any has, each command is asked.
  hint := case when tg_tag in (
    'ALTER TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER SEQUENCE', 'ALTER TYPE',
    'ALTER DOMAIN', 'ALTER POLICY', 'ALTER TRIGGER'
  ) and current_setting('track_counts') = 'on' and pg_stat_get_xact_tuples_deleted('pg_inherits'::regclass) = 0 then coalesce(current_setting('rowhouse.commands', true), '') end;
  if hint like '(%' then
    perform from rowhouse.schema_touch
    where ctid = substring(hint from '^\(\d{1,9},\d{1,4}\)$')::tid and transaction = pg_current_xact_id() and kind = 'many';
    if found then
      return;
    end if;
    hint := repeat('.', 64);
  end if;
  if length(hint) < 64 then
    perform set_config('rowhouse.commands', hint || '.', true);
  elsif hint is not null then
    perform rowhouse.note_touches('{"many "}', 'rowhouse.commands');
    return;
  elsif tg_tag in ('REFRESH MATERIALIZED VIEW', 'REINDEX') then
    -- They leave every definition as it is, and a refresh may come every minute. But one is the end of a restore.
    if tg_tag = 'REFRESH MATERIALIZED VIEW' and exists (
      select from pg_event_trigger_ddl_commands() c
      join pg_class v on v.oid = c.objid and v.relname = 'restored' and v.relnamespace = 'rowhouse'::regnamespace
    ) then
      insert into rowhouse.schema_touch (kind, name) values ('moved', 'restored') on conflict do nothing;
    end if;
    return;
  elsif tg_tag = 'ALTER DEFAULT PRIVILEGES' then
    perform rowhouse.note_default_privileges();
    return;
  end if;

  hint := current_setting('rowhouse.schema', true);
  if hint like '(%' then
    select name into known from rowhouse.schema_touch
    where ctid = substring(hint from '^\(\d{1,9},\d{1,4}\)$')::tid and transaction = pg_current_xact_id() and kind = 'schema';
  end if;
  -- ALTER EXTENSION does not tell which objects it was given or has lost, nor ALTER LANGUAGE which functions are in it.
  moved := tg_tag in ('ALTER EXTENSION', 'ALTER LANGUAGE');
  -- Each question by itself and only where it has to be asked: as joins, or EXISTS, the planner, which takes the commands for a
  -- thousand, reads whole catalogues (2 ms a command in place of 0.2, with 22,000 relations).
  for command in
    select classid, objid, object_type, schema_name, command_tag from pg_event_trigger_ddl_commands()
  loop
    if command.command_tag in ('GRANT', 'REVOKE') then
      touches := touches || ('granted ' || command.object_type);
      continue;
    end if;
    if command.classid in ('pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass) then
      -- They are reported without a schema. Not by queries: the snapshot of a transaction that is not READ COMMITTED need not have
      -- the table.
      command.schema_name := (pg_identify_object_as_address(command.classid, command.objid, 0)).object_names[1];
    end if;
    if command.schema_name is null then
      -- These have no schema of their own, and are reported without one.
      spaces := spaces || case command.classid
        when 'pg_namespace'::regclass then command.objid
        when 'pg_extension'::regclass then (select extnamespace from pg_extension where oid = command.objid)
      end;
    elsif command.schema_name is distinct from known and rowhouse.has_revision(command.schema_name) then
      touches := ('schema ' || command.schema_name) || touches;
    end if;
    continue when command.command_tag = 'COMMENT';
    if command.classid = 'pg_class'::regclass
      and (select relhassubclass or relkind = 'c' from pg_class where oid = command.objid)
    then
      -- ALTER TABLE goes on to the children, ALTER TYPE … CASCADE to the tables of the type. They may be in other
      -- schemas, and are not reported.
      spaces := spaces || array(
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
    if command.command_tag like 'ALTER %' then
      -- What is moved to pg_catalog depends on it without a row that says so.
      moved := moved or command.schema_name is not distinct from 'pg_catalog';
      -- SET SCHEMA reports where the object is now, not where it was. But its dependency on the schema is a row of its own, which
      -- is written where an object is created or moved to another schema, and nowhere else. Where it was created in this
      -- transaction the schema that it comes from has been touched anyway.
      if not moved and exists (
        select from pg_depend d
        where d.classid = command.classid and d.objid = command.objid and d.refclassid = 'pg_namespace'::regclass
          and age(d.xmin) <= age(pg_current_xact_id()::xid)
          and rowhouse.is_under_way(d.xmin)
      ) then
        object := concat(command.classid, ' ', command.objid);
        moved := (object = any (made)) is not true and not exists (
          select from rowhouse.schema_touch where transaction = pg_current_xact_id() and kind = 'made' and name = object
        );
      end if;
    -- An index has no schema but its table's, and ALTER INDEX cannot move it.
    elsif command.object_type <> 'index' and (command.command_tag like 'CREATE %' or command.command_tag = 'SELECT INTO')
      -- CREATE OR REPLACE is told of like CREATE; that the type of a view's rows belongs to the view is written when it is created.
      and (command.object_type <> 'view' or exists (
        select from pg_depend
        where classid = 'pg_type'::regclass and objid = (select reltype from pg_class where oid = command.objid)
          and refclassid = 'pg_class'::regclass and refobjid = command.objid
          and age(xmin) <= age(pg_current_xact_id()::xid) and rowhouse.is_under_way(xmin)
      ))
    then
      made := made || concat(command.classid, ' ', command.objid);
    end if;
  end loop;

  if spaces is not null then
    touches := array(select 'schema ' || nspname from pg_namespace where oid = any (spaces) and rowhouse.has_revision(nspname))
      || touches;
  end if;
  if made is not null and (known is not null or touches[1] like 'schema %') then
    -- Only beside a touch that settles, and with that clears, them.
    touches := touches || array(select 'made ' || one from unnest(made) as one);
  end if;
  if moved then
    touches := touches || 'moved '::text;
  end if;
  if tg_tag = 'ALTER SCHEMA' then
    touches := touches || 'renamed '::text;
  elsif tg_tag = 'DROP OWNED' then
    -- It revokes too, and takes the role out of policies, and reports that of no object. (REASSIGN OWNED is no event at all: PostgreSQL 18.)
    touches := touches || '{granted TABLE,granted COLUMN,granted FUNCTION,granted TYPE,granted SCHEMA,granted POLICY}'::text[];
  end if;
  if touches[1] like 'schema %' then
    perform rowhouse.note_touches(touches, 'rowhouse.schema');
  elsif cardinality(touches) > 0 then
    perform rowhouse.note_touches(touches, null);
  end if;
end
$$;

create or replace function rowhouse.on_sql_drop() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  hint text := current_setting('rowhouse.schema', true);
  touches text[];
begin
  -- Triggers, policies, rules and column defaults have no schema, but an address that begins with their table's; that of default
  -- privileges begins with their role. What is no schema's name is found to be none at commit.
  touches := array(
    select 'schema ' || name
    from (
      select coalesce(schema_name, address_names[case object_type when 'default acl' then 2 else 1 end]) as name
      from pg_event_trigger_dropped_objects() where not is_temporary
    ) dropped
    where name is distinct from (
      select name from rowhouse.schema_touch
      where ctid = substring(hint from '^\(\d{1,9},\d{1,4}\)$')::tid and transaction = pg_current_xact_id() and kind = 'schema'
    ) and rowhouse.has_revision(name)
  );
  if cardinality(touches) > 0 then
    perform rowhouse.note_touches(touches, 'rowhouse.schema');
  end if;
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
  select count(*), coalesce(array_agg(name) filter (where kind = 'schema'), '{}') || array(
      select nspname::text from pg_namespace where oid = any (array_agg(name::oid) filter (where kind = 'space'))
    ), array_agg(name) filter (where kind = 'granted'),
    bool_or(kind = 'moved'), bool_or(kind = 'renamed'), bool_or(kind = 'moved' and name = 'restored'),
    bool_or(kind = 'many'), coalesce(array_agg(name) filter (where kind = 'made'), '{}')
  into settled, touched, granted, moved, renamed, restored, many, made from rowhouse.take_touches();
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
        union all
        select relnamespace from pg_policy p join pg_class c on c.oid = p.polrelid where granted && '{POLICY}' and age(p.xmin) <= oldest
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
          -- Those of a foreign key come with it, and one of them to the table that it refers to, which nothing else has touched.
          select tgrelid from pg_trigger t where age(xmin) <= oldest and not (
            tgisinternal and exists (select from pg_constraint where oid = t.tgconstraint and age(xmin) <= oldest)
          )
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
    -- By name, not by a query: under a snapshot of the whole transaction that need not see the schema. The row then fails to serialize.
    if to_regnamespace(quote_ident(changed_name)) is not null then
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
