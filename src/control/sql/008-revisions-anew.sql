-- A dump holds the revisions of its own time. A database restored from it would count on from there, and sooner or later give
-- another shape a number that some host already knows. So a revision consists of the time at which it was written and a
-- number: it is computed anew whenever a row is written, which includes a restore, and never comes twice.

alter table rowhouse.schema_revision rename column revision to number;

-- 43 bits of milliseconds, 20 of the number. Declared immutable because a generated column may call nothing else: PostgreSQL
-- computes one when its row is inserted or `number` is updated, never when it is read.
create function rowhouse.revision_of(number bigint) returns bigint
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
begin
  return ((1000 * extract(epoch from clock_timestamp()))::bigint << 20) | (number & 1048575);
end
$$;

revoke all on function rowhouse.revision_of from public;

-- No dump holds the values of a generated column: whoever restores the rows has them computed.
alter table rowhouse.schema_revision
  add column revision bigint not null generated always as (rowhouse.revision_of(number)) stored;

comment on column rowhouse.schema_revision.revision is 'When the schema last changed, as 43 bits of milliseconds and 20 of `number`; always a new value.';

-- A restore creates tables, loads rows, and adds keys and constraints long after that; nothing tells hosts that it has finished.
-- But the last thing it does is to refresh materialized views, once event triggers are back: on_ddl_command_end moves all
-- revisions when this one is refreshed.
create materialized view rowhouse.restored as select pg_catalog.statement_timestamp() as restored_at;

comment on materialized view rowhouse.restored is 'Refreshed at the end of a restore, which moves the revision of every schema.';

create or replace function rowhouse.assert_revisions(schemas text[], revisions bigint[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- Under a snapshot of the whole transaction a row is read as it was. Locking it fails with 40001 where it has moved
  -- since; the few transactions of these levels hold no migration up for longer than they run.
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable')
    and current_setting('transaction_read_only') = 'off'
  then
    perform from rowhouse.schema_revision r where r.schema_name = any (schemas) order by r.schema_name for share;
    -- A row that has come since is not seen at all, but stands in the way of another: 40001 again. Rolled back at once.
    if exists (
      select from unnest(schemas) as asked (name)
      where not exists (select from rowhouse.schema_revision r where r.schema_name = asked.name)
    ) then
      begin
        insert into rowhouse.schema_revision (schema_name, number)
        select distinct asked.name, 0 from unnest(schemas) as asked (name) on conflict do nothing;
        raise exception sqlstate 'RW000';
      exception when sqlstate 'RW000' then
        null;
      end;
    end if;
  end if;
  -- A list that is missing passes for nothing.
  if coalesce(cardinality(schemas), -1) <> coalesce(cardinality(revisions), -2) or exists (
    select from rows from (unnest(schemas), unnest(revisions)) as given (name, revision)
    left join rowhouse.schema_revision r on r.schema_name = given.name
    where coalesce(r.revision, 0) is distinct from given.revision
  ) then
    raise exception 'the schema has changed' using
      errcode = 'RW409',
      -- By schema, as text: a JSON number does not hold every bigint.
      detail = (
        select coalesce(json_object_agg(asked.name, coalesce(r.revision, 0)::text)::text, '{}')
        from (select distinct name from unnest(schemas) as name where name is not null) asked
        left join rowhouse.schema_revision r on r.schema_name = asked.name
      );
  end if;
end
$$;

-- Whether the transaction may notify. PostgreSQL refuses to prepare one that has, so where the server allows prepared
-- transactions this asks whether it is about to be committed: the client's message says so, or is all of the transaction. It is
-- not where PREPARE TRANSACTION fires the deferred triggers, nor where SET CONSTRAINTS makes them fire early. Only words are
-- looked for: one that is there by chance costs a notification, and hosts look at revisions by themselves on such servers.
create function rowhouse.may_notify() returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  stack text;
  said text;
begin
  if current_setting('max_prepared_transactions') = '0' then
    return true;
  end if;
  -- A managed migration sets constraints, and then commits.
  if exists (
    select from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and granted and mode = 'RowExclusiveLock'
      and relation = (select oid from pg_class where relname = 'migrating' and relnamespace = 'rowhouse'::regnamespace)
      and database = (select oid from pg_database where datname = current_database())
  ) then
    return true;
  end if;
  get diagnostics stack = pg_context;
  said := lower(concat(current_query(), E'\n', stack));
  return position('prepare' in said) = 0 and position('constraints' in said) = 0 and (
    said ~ '\m(commit|end)\M' or transaction_timestamp() = statement_timestamp() and said !~ '\m(begin|start)\M'
  );
end
$$;

revoke all on function rowhouse.may_notify from public;
