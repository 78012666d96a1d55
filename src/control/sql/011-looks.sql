-- Where there are no event triggers hosts look at the catalogue from time to time. What the last look saw stands here, so that
-- one host looks for all, moves a revision once, and finds what changed while no host ran.

create table rowhouse.schema_look (
  schema_name text primary key,
  -- Of the rows of the catalogue that make up what others can see of the schema.
  digest bigint not null
);

comment on table rowhouse.schema_look is 'What hosts last saw of each schema, where there are no event triggers.';

create table rowhouse.last_look (
  single boolean primary key default true check (single),
  looked_at timestamptz not null default '-infinity'
);

insert into rowhouse.last_look default values;

-- Whether the caller is to look: nobody has within that time, and nobody is about to. Until the end of the transaction nobody
-- else is. By a row's lock, which not everybody can take as they can an advisory one.
create function rowhouse.begin_look(within interval) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from rowhouse.last_look
  -- A clock that was set back must not put an end to looking.
  where looked_at <= clock_timestamp() - within or looked_at > clock_timestamp()
  for update skip locked;
  if not found then
    return false;
  end if;
  update rowhouse.last_look set looked_at = clock_timestamp();
  return true;
end
$$;

comment on function rowhouse.begin_look is 'Whether no other host has looked at the catalogue within that time; takes the turn.';

-- Moves the revision of each schema that is not as it was at the last look, which includes those that came or are gone.
create function rowhouse.note_look(names text[], digests bigint[]) returns text[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  changed text[];
begin
  if coalesce(cardinality(names), -1) <> coalesce(cardinality(digests), -2) then
    raise null_value_not_allowed using message = 'note_look needs a digest for each name';
  end if;
  with seen as (
    select given.name, given.digest from rows from (unnest(names), unnest(digests)) as given (name, digest)
    where rowhouse.has_revision(given.name)
  ),
  differing as (
    select s.name, s.digest from seen s left join rowhouse.schema_look l on l.schema_name = s.name
    where l.digest is distinct from s.digest
  ),
  noted as (
    insert into rowhouse.schema_look as had (schema_name, digest) select name, digest from differing
    on conflict (schema_name) do update set digest = excluded.digest
    returning schema_name
  ),
  gone as (
    delete from rowhouse.schema_look l where not exists (select from seen s where s.name = l.schema_name)
    returning schema_name
  )
  select array_agg(schema_name) into changed from (table noted union all table gone) of_both;
  perform rowhouse.touch_schemas(changed);
  return coalesce(changed, '{}');
end
$$;

comment on function rowhouse.note_look is 'Moves the revision of each schema whose digest is another than at the last look; returns those.';

-- They move every host's caches, and so are for hosts: those who may have the keys of tenants' locks.
revoke all on function rowhouse.begin_look, rowhouse.note_look from public;

do $$
declare
  known regrole;
begin
  for known in
    select distinct a.grantee::regrole from pg_proc p cross join aclexplode(p.proacl) a
    where p.oid = 'rowhouse.tenant_lock_key(text)'::regprocedure and a.privilege_type = 'EXECUTE' and a.grantee not in (0, p.proowner)
  loop
    execute format('grant execute on function rowhouse.begin_look, rowhouse.note_look to %s', known);
  end loop;
end
$$;
