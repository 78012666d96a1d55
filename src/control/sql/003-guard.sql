-- The guard: what a tenant's transaction asks to prove that its schema is still the one that it was planned for, and
-- what a managed migration needs. Reads and writes take no row locks: with overlapping FOR SHARE holders a migration
-- starves (7.6 s measured), while advisory locks queue fairly (0.8 s).

create function rowhouse.tenant_lock_key(tenant text) returns bigint
language sql immutable strict parallel safe
return pg_catalog.hashtextextended('rowhouse.tenant:'::text operator(pg_catalog.||) tenant, 0::bigint);

comment on function rowhouse.tenant_lock_key is 'Advisory lock of a tenant: writes hold it shared, a managed migration exclusively.';

-- Each statement of a volatile function takes a new snapshot under READ COMMITTED: what is committed when it is called
-- counts, also within a statement that began earlier. The search path is fixed for plans to be kept, too: under each tenant's own they
-- would be made anew with every change of tenant.
create function rowhouse.assert_revisions(schemas text[], revisions bigint[]) returns void
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
        insert into rowhouse.schema_revision (schema_name, revision)
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

comment on function rowhouse.assert_revisions is 'Raises RW409 unless each schema is at the given revision, 0 where it has none; DETAIL has the current ones as JSON.';

create function rowhouse.begin_write(tenant text, schemas text[], revisions bigint[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- A lock of no key is none, without a word.
  if tenant is null then
    raise null_value_not_allowed using message = 'begin_write needs a tenant';
  end if;
  perform pg_advisory_xact_lock_shared(rowhouse.tenant_lock_key(tenant));
  -- A statement of its own: its snapshot comes after the wait, and so has what was waited for.
  perform rowhouse.assert_revisions(schemas, revisions);
end
$$;

comment on function rowhouse.begin_write is 'The first statement of a write: the tenant''s lock, shared, until the end of the transaction, and its revisions.';

-- Which SQL has been applied to which tenant, so that a run over many tenants can be taken up where it stopped.
create table rowhouse.applied (
  tenant text not null,
  -- sha256 of the SQL, hex.
  checksum text not null,
  -- Of the tenant's first schema: a tenant that was dropped and made anew has been through nothing.
  namespace oid not null,
  from_shape text not null,
  to_shape text not null,
  applied_at timestamptz not null default now(),
  primary key (tenant, checksum)
);

comment on table rowhouse.applied is 'The SQL that "rowhouse migrate" has applied, by tenant.';

-- Through EXECUTE, which takes several statements but none that begins or ends a transaction: sent as they are, a COMMIT
-- among them would make half a migration stand, and what follows a ROLLBACK would run without the lock.
-- With the caller's rights and settings: it may do nothing more than the SQL itself.
create function rowhouse.run_migration(sql text) returns void
language plpgsql volatile security invoker as $$
begin
  execute sql;
end
$$;

-- Moves revisions at the end of the transaction, where no event triggers do: once, whoever else touches the schema in it.
create function rowhouse.touch_schemas(schemas text[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
  insert into rowhouse.schema_touch (kind, name)
  select distinct 'schema', name from unnest(schemas) as name where rowhouse.has_revision(name)
  on conflict do nothing;
end;

-- The others are for whoever has USAGE on the schema, which is the host's role: they show no more than the table of
-- revisions, and take no lock that pg_advisory_xact_lock would not. This one moves every host's caches.
revoke all on function rowhouse.touch_schemas from public;
