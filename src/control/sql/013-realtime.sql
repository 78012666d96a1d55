-- Changes that hosts tell their subscribers of. Each is a row that the changing transaction itself writes, so that both stand or
-- fall together, and hosts read what was committed between two snapshots. NOTIFY would hold a lock of the whole server through
-- every commit, and any role could forge its messages.

create table rowhouse.event (
  -- In the order in which they were written: of two changes of one row, the later one has the higher number.
  seq bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default clock_timestamp(),
  schema_name text not null,
  topic text not null,
  payload text not null,
  -- Stands for all further events of its topic in this transaction.
  overflow boolean not null default false,
  primary key (xid, seq)
);

create unique index event_overflow on rowhouse.event (xid, schema_name, topic) where overflow;

comment on table rowhouse.event is 'Changes of watched tables, and what was published, kept for hosts that have subscribers.';

-- Hosts that have, or had a moment ago, subscribers in this database. Without any nothing is written to rowhouse.event.
create table rowhouse.realtime_host (
  host text primary key,
  until timestamptz not null,
  -- For how long events are to be kept for it.
  keeps interval not null
);

create index on rowhouse.realtime_host (until);

comment on table rowhouse.realtime_host is 'Hosts with subscribers. Events are written while there is one.';

-- Registers a host for that time from now on. Whether it was registered without interruption: otherwise it may have missed events.
create function rowhouse.register_realtime(name text, lease interval) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  had timestamptz;
begin
  if name is null or lease is null or lease not between '1 second' and '1 day' then
    raise invalid_parameter_value using message = 'register_realtime needs a name, and a time from one second to one day';
  end if;
  -- Those of hosts that ended without a word. Not this one's: whether it lapsed is yet to be told.
  delete from rowhouse.realtime_host h where h.until < now() - interval '1 hour' and h.host <> name;
  select h.until into had from rowhouse.realtime_host h where h.host = name for update;
  insert into rowhouse.realtime_host as h (host, until, keeps) values (name, clock_timestamp() + lease, lease)
  on conflict (host) do update set until = excluded.until, keeps = excluded.keeps;
  return coalesce(had > clock_timestamp(), false);
end
$$;

-- Where that was the last one, nobody needs what there is. Who registers meanwhile needs only what is not committed yet.
create function rowhouse.unregister_realtime(name text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from rowhouse.realtime_host h where h.host = name;
  delete from rowhouse.event where not exists (select from rowhouse.realtime_host h where h.until > now());
end
$$;

-- Deletes what was there in that snapshot, which the caller took longer ago than any host needs: what is old by the clock may
-- have been committed this moment. Returns how many; at most 10,000, so that no transaction of this is long.
create function rowhouse.sweep_events(seen pg_snapshot) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  swept bigint;
begin
  with old as (
    select e.xid, e.seq from rowhouse.event e
    where e.xid < pg_snapshot_xmax(seen) and pg_visible_in_snapshot(e.xid, seen)
    order by e.xid, e.seq limit 10000 for update skip locked
  ),
  -- From another server: a dump was restored.
  foreign_ones as (
    select e.xid, e.seq from rowhouse.event e where e.xid >= pg_snapshot_xmax(pg_current_snapshot())
    order by e.xid, e.seq limit 10000 for update skip locked
  ),
  gone as (
    delete from rowhouse.event e using (table old union table foreign_ones) o where e.xid = o.xid and e.seq = o.seq returning 1
  )
  select count(*) into swept from gone;
  return swept;
end
$$;

-- Whether the transaction may write another event of a topic; it may write 1000. For whoever finds that
-- pg_stat_get_xact_tuples_inserted, which may include what the session inserted in the last second, has come to that: to count is
-- to read the table, which in serializable transactions conflicts with all others that write to it.
create function rowhouse.may_add_event(space text, name text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
  perform from rowhouse.event e
  where e.xid = pg_current_xact_id() and e.schema_name = space and e.topic = name and e.overflow;
  return not found and 1000 > (
    select count(*) from (select from rowhouse.event e where e.xid = pg_current_xact_id() limit 1000) written
  );
end
$$;

-- Tells of a change of a watched table, with the keys of its rows as texts; its arguments are the columns of the primary key.
-- Nothing here may run code of whoever owns the table: it runs with the rights of the control schema's owner. So keys are written
-- by their types' own output functions, as format() does; a cast, also one to json, may be anybody's function. And without the
-- trigger's transition tables their names would be looked up among temporary tables.
create function rowhouse.note_change() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- Planned for its arguments every time, it takes twice as long.
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  known record;
  root regclass := pg_partition_root(tg_relid);
  has_columns boolean;
  space text := tg_table_schema;
  name text := tg_table_name;
  one text;
  keys json;
  body text;
begin
  -- Compared with the beginning of the transaction: its snapshot may be as old, and a host have renewed what it shows.
  perform from rowhouse.realtime_host where until > now() limit 1;
  if not found then
    return null;
  end if;
  select t.tgoldtable, t.tgnewtable into known from pg_trigger t where t.tgrelid = tg_relid and t.tgname = tg_name;
  if (tg_op = 'INSERT' and known.tgnewtable = 'new_rows')
    or (tg_op = 'DELETE' and known.tgoldtable = 'old_rows')
    or (tg_op = 'UPDATE' and known.tgnewtable = 'new_rows' and known.tgoldtable = 'old_rows')
  then
    if tg_op = 'DELETE' then
      perform from old_rows limit 1;
    else
      perform from new_rows limit 1;
    end if;
    if not found then
      return null;
    end if;
    -- One may have another name by now.
    has_columns := tg_nargs > 0 and tg_nargs = (
      select count(*) from pg_attribute a where a.attrelid = tg_relid and a.attname = any (tg_argv::name[])
    );
    if has_columns and tg_nargs = 1 and tg_argv[0] = 'id' then
      -- Prepared once, where the others are planned each time.
      if tg_op = 'INSERT' then
        select json_agg(json_build_array(k)) into keys from (select format('%s', id) as k from new_rows limit 101) c;
      elsif tg_op = 'DELETE' then
        select json_agg(json_build_array(k)) into keys from (select format('%s', id) as k from old_rows limit 101) c;
      else
        select json_agg(json_build_array(k)) into keys from (
          (select format('%s', id) as k from new_rows limit 101)
          union
          (select format('%s', id) from old_rows limit 101)
        ) c;
      end if;
    elsif has_columns then
      select string_agg(format('format(%L, %I)', '%s', each), ', ' order by place) into one
      from unnest(tg_argv) with ordinality as columns (each, place);
      execute 'select json_agg(array_to_json(k)) from (' || case tg_op
        when 'INSERT' then format('select array[%s] as k from new_rows limit 101', one)
        when 'DELETE' then format('select array[%s] as k from old_rows limit 101', one)
        else format('(select array[%1$s] as k from new_rows limit 101) union (select array[%1$s] from old_rows limit 101)', one)
      end || ') c' into keys;
    end if;
  end if;
  if json_array_length(keys) <= 100 then
    body := json_build_object('op', tg_op, 'by', tg_argv, 'keys', keys);
  end if;
  if body is null or octet_length(body) > 65536 then
    body := json_build_object('op', tg_op, 'many', true);
  end if;
  if root is not null then
    select n.nspname, c.relname into space, name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = root;
  end if;
  if space like 'pg\_%' or space in ('information_schema', 'rowhouse') then
    return null;
  end if;
  if (current_setting('track_counts') = 'off' or pg_stat_get_xact_tuples_inserted('rowhouse.event'::regclass) >= 1000)
    and not rowhouse.may_add_event(space, name)
  then
    insert into rowhouse.event (schema_name, topic, payload, overflow)
    values (space, name, '{"op" : "MANY", "many" : true}', true)
    on conflict (xid, schema_name, topic) where overflow do nothing;
  else
    insert into rowhouse.event (schema_name, topic, payload) values (space, name, body);
  end if;
  return null;
end
$$;

-- Tells of the table's changes from now on, and those of its partitions. For whoever may create triggers on it. Where the primary
-- key has changed, and for new partitions, it is to be called again.
create function rowhouse.watch(watched regclass) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  relation record;
  change record;
begin
  if watched is null then
    raise null_value_not_allowed using message = 'rowhouse.watch needs a table';
  end if;
  for relation in
    select c.oid, c.oid::regclass as name, c.relkind, n.nspname, array(
      select a.attname::text from pg_index i cross join unnest(i.indkey) with ordinality as k (number, place)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
      where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts order by k.place
    ) as columns
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = watched or (c.oid in (select relid from pg_partition_tree(watched)) and c.relkind <> 'f')
  loop
    if relation.relkind not in ('r', 'p') then
      raise wrong_object_type using message = format('%s cannot be watched: it is not a table', relation.name),
        hint = 'Watch the tables that it reads.';
    elsif relation.nspname like 'pg\_%' or relation.nspname in ('information_schema', 'rowhouse') then
      raise wrong_object_type using message = format('%s cannot be watched: it belongs to no tenant', relation.name);
    end if;
    for change in
      select * from (values
        ('insert', 'referencing new table as new_rows'),
        ('update', 'referencing old table as old_rows new table as new_rows'),
        ('delete', 'referencing old table as old_rows'),
        ('truncate', '')
      ) as changes (event, referencing)
      -- As it is it stays: to write it again would move the schema's revision.
      where not exists (
        select from pg_trigger t
        where t.tgrelid = relation.oid and t.tgname = 'rowhouse_' || event and t.tgenabled <> 'D'
          and t.tgfoid = 'rowhouse.note_change()'::regprocedure
          and t.tgargs = (select coalesce(string_agg(convert_to(each, getdatabaseencoding()) || '\x00'::bytea, ''::bytea order by place), '') from unnest(relation.columns) with ordinality as u (each, place))
      )
    loop
      execute format(
        'create or replace trigger rowhouse_%1$s after %1$s on %2$s %3$s for each statement execute function rowhouse.note_change(%4$s)',
        change.event, relation.name, change.referencing,
        (select string_agg(quote_literal(each), ', ' order by place) from unnest(relation.columns) with ordinality as u (each, place))
      );
      execute format('alter table %s enable trigger rowhouse_%s', relation.name, change.event);
    end loop;
  end loop;
end
$$;

comment on function rowhouse.watch is 'Tells hosts of the changes of a table and its partitions.';

create function rowhouse.unwatch(watched regclass) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  found_one record;
begin
  for found_one in
    select t.tgrelid::regclass as relation, t.tgname as name from pg_trigger t
    where t.tgfoid = 'rowhouse.note_change()'::regprocedure
      and (t.tgrelid = watched or t.tgrelid in (select relid from pg_partition_tree(watched)))
  loop
    execute format('drop trigger %I on %s', found_one.name, found_one.relation);
  end loop;
end
$$;

comment on function rowhouse.unwatch is 'Undoes rowhouse.watch.';

-- Publishes to the subscribers of the tenants that have that schema. Within another tenant's function, or as its owner, the
-- caller is still the role that the session has set.
create function rowhouse.publish(topic text, payload text, schema text default current_schema()) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  caller constant name := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  if topic is null or payload is null or schema is null then
    raise null_value_not_allowed using message = 'rowhouse.publish needs a topic, a payload and a schema';
  elsif octet_length(topic) not between 1 and 255 then
    raise program_limit_exceeded using message = 'the topic of rowhouse.publish must have 1 to 255 bytes';
  elsif octet_length(payload) > 65536 then
    raise program_limit_exceeded using message = 'the payload of rowhouse.publish may have 65536 bytes',
      hint = 'Publish the key of a row that has the rest.';
  end if;
  -- The same for a schema that does not exist: who may not use one may not learn of it either.
  if not exists (
    select from pg_namespace n
    where n.nspname = schema and rowhouse.has_revision(schema) and has_schema_privilege(caller, n.oid, 'usage')
  ) then
    raise insufficient_privilege using message = format('role %s may not publish in schema %s', caller, schema);
  end if;
  perform from rowhouse.realtime_host where until > now() limit 1;
  if not found then
    return;
  end if;
  if (current_setting('track_counts') = 'off' or pg_stat_get_xact_tuples_inserted('rowhouse.event'::regclass) >= 1000)
    and not rowhouse.may_add_event(schema, topic)
  then
    raise program_limit_exceeded using message = 'a transaction may publish 1000 events';
  end if;
  insert into rowhouse.event (schema_name, topic, payload) values (schema, topic, payload);
end
$$;

comment on function rowhouse.publish is 'Publishes a payload under a topic to the subscribers of a schema''s tenants.';

revoke all on function rowhouse.register_realtime, rowhouse.unregister_realtime, rowhouse.sweep_events, rowhouse.may_add_event,
  rowhouse.note_change, rowhouse.watch, rowhouse.unwatch from public;

-- Who publishes has USAGE on the schema. That was for hosts, and begin_write takes the lock of any tenant.
do $$
declare
  known regrole;
begin
  for known in
    select distinct a.grantee::regrole from pg_proc p cross join aclexplode(p.proacl) a
    where p.oid = 'rowhouse.tenant_lock_key(text)'::regprocedure and a.privilege_type = 'EXECUTE' and a.grantee not in (0, p.proowner)
  loop
    execute format(
      'grant execute on function rowhouse.begin_write, rowhouse.register_realtime, '
      'rowhouse.unregister_realtime, rowhouse.sweep_events to %s', known
    );
    execute format('grant select on rowhouse.event, rowhouse.realtime_host to %s', known);
  end loop;
  for known in
    select distinct a.grantee::regrole from pg_class c cross join aclexplode(c.relacl) a
    where c.oid = 'rowhouse.applied'::regclass and a.privilege_type = 'INSERT' and a.grantee not in (0, c.relowner)
  loop
    execute format('grant execute on function rowhouse.note_change, rowhouse.watch, rowhouse.unwatch to %s', known);
  end loop;
end
$$;

revoke all on function rowhouse.begin_write from public;
