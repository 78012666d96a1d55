-- The control table: one row per tenant, for `tenants: { table: … }`.

create table rowhouse.tenant (
  id text primary key check (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  -- Lower case, without port and trailing dot: made so by the trigger below.
  hosts text[] not null default '{}',
  database text,
  api text,
  mode text,
  -- [{"logical": "app", "physical": "acme_app"}, …] or ["acme_app", …]; jsonb does not keep the order of an object's keys.
  schemas jsonb not null check (jsonb_typeof(schemas) in ('array', 'object')),
  shared_schemas text[],
  roles jsonb check (jsonb_typeof(roles) = 'object'),
  settings jsonb check (jsonb_typeof(settings) = 'object'),
  enabled boolean not null default true,
  changed_at timestamptz not null default now()
);

comment on table rowhouse.tenant is 'Tenants of the Rowhouse host. Each change notifies rowhouse_tenant with the id; truncate with an empty payload.';

-- Kept by the trigger below: what makes a host one tenant's alone, and the index for looking a tenant up by host.
create table rowhouse.tenant_host (
  -- Deferrable, so that a host can move from one tenant to another within a transaction.
  host text primary key deferrable initially immediate,
  tenant text not null references rowhouse.tenant on update cascade on delete cascade
);

create index on rowhouse.tenant_host (tenant);

create function rowhouse.before_tenant_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from unnest(new.hosts) host where coalesce(host, '') !~ '^[^\s/:@]+$') then
    raise exception 'a host of tenant % is empty or has a port, a path or a space', new.id using errcode = 'check_violation';
  end if;
  new.hosts := array(
    select rtrim(lower(host), '.') from unnest(new.hosts) with ordinality as given(host, place)
    group by 1 order by min(place)
  );
  new.changed_at := now();
  return new;
end
$$;

create function rowhouse.after_tenant_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'TRUNCATE' then
    perform pg_notify('rowhouse_tenant', '');
    return null;
  end if;
  if tg_op <> 'INSERT' then
    perform pg_notify('rowhouse_tenant', old.id);
  end if;
  if tg_op <> 'DELETE' then
    perform pg_notify('rowhouse_tenant', new.id);
    delete from rowhouse.tenant_host where tenant = new.id and host <> all (new.hosts);
    insert into rowhouse.tenant_host (host, tenant)
    select given.host, new.id from unnest(new.hosts) given (host)
    where not exists (select from rowhouse.tenant_host had where had.host = given.host and had.tenant = new.id);
  end if;
  return null;
end
$$;

create trigger before_change before insert or update on rowhouse.tenant
  for each row execute function rowhouse.before_tenant_change();
create trigger after_change after insert or update or delete on rowhouse.tenant
  for each row execute function rowhouse.after_tenant_change();
create trigger after_truncate after truncate on rowhouse.tenant
  for each statement execute function rowhouse.after_tenant_change();

revoke all on function rowhouse.before_tenant_change, rowhouse.after_tenant_change from public;
