/**
 * Objects outside the served and shared schemas that the tenant of `shape-tenant.ts` refers to, and whether DDL on them changes
 * the hash of its full shape.
 */
import { casesOf } from "./ddl-cases.ts";

/** Run once per database, before any tenant and after `sharedSql`. */
export const closureSharedSql = `
create schema deep; create schema lib;
create type deep.grade as enum ('low', 'high');
create domain deep.code as text check (value <> '');
create type lib.addr as (street text, city text);
create type lib.place as (at lib.addr, grade deep.grade);
create type lib.status as enum ('open', 'shut');
create domain lib.email as text check (value like '%@%');
create domain lib.ref as deep.code;
create type lib.span as range (subtype = date);
create type lib.size as enum ('s', 'm');
create type lib.sizes as range (subtype = lib.size);
create type lib.hint as (word text, weight int);
create type lib.outcome as (done boolean, note text);
create table lib.countries (id int primary key, code text not null unique, name text, region int references public.regions);
create table lib.units (id int primary key, label text);
create table lib.vehicles (id int, wheels int not null);
create view lib.shown as select id, name from lib.countries;
create table lib.kinds (name text primary key, description text);
comment on table lib.kinds is '@enum';
insert into lib.kinds values ('car', 'On wheels.');
create schema later;
create type lib.bystander as enum ('none');
create table lib.ledger (id int primary key);
grant usage on schema lib, deep to :host;
grant select on lib.countries, lib.shown, lib.kinds to :host;`;

/** Run for each tenant, after `tenantSql`. */
export const closureTenantSql = `
create table :app.shops (
  id int primary key, home lib.addr, places lib.place[], status lib.status not null default 'open', email lib.email, ref lib.ref,
  during lib.span, ever lib.span_multirange, sizes lib.sizes, country int references lib.countries, kind text references lib.kinds, unit int
);
comment on table :app.shops is '@foreignKey (unit) references lib.units (id)';
create table :app.vans (load int) inherits (lib.vehicles);
create view :app.lands as select id, name from lib.shown;
create view :app.awaits as select id, unit from :app.shops;
comment on view :app.awaits is E'@primaryKey id\\n@foreignKey (unit) references later.units (id)';
create function :app.talk() returns int stable language plpgsql as 'begin return 1; end';
create function :app.search(hint lib.hint) returns lib.outcome stable language sql as 'select true, null::text';
grant select, insert on :app.shops, :app.vans, :app.lands to :host;`;

export const closureCases = casesOf(`
# Composite types
hash alter type lib.addr drop attribute street, add attribute street text
hash alter type lib.addr rename attribute street to held; alter type lib.addr rename attribute city to street; alter type lib.addr rename attribute held to city
hash alter type lib.addr add attribute zip text
hash alter type lib.addr drop attribute city
hash alter type lib.hint alter attribute weight type text
hash alter type lib.hint add attribute more deep.grade
hash alter type lib.outcome rename attribute note to remark
hash alter type lib.addr rename to address
hash comment on type lib.addr is '@name spot'
hash comment on column lib.addr.city is 'Or village.'
none create type lib.more as (a int)
none alter type lib.bystander add value 'one'

# Enums
hash alter type lib.status add value 'moved'
hash alter type lib.status add value 'moved' before 'open'
hash alter type lib.status rename value 'shut' to 'closed'
hash alter type lib.status rename to state
hash alter type deep.grade add value 'middle' after 'low'
hash comment on type lib.status is 'Whether one may come in.'
hash drop type lib.status cascade

# Domains
hash alter domain lib.email set not null
hash alter domain lib.email add check (value <> '')
hash alter domain lib.email drop constraint email_check
hash alter domain lib.email set default 'a@b'
hash alter domain deep.code drop constraint code_check
hash alter domain lib.email rename to mail
hash drop domain lib.email cascade; create domain lib.email as int; alter table :app.shops add email lib.email

# Ranges
hash drop type lib.sizes cascade; create type lib.sizes as range (subtype = int); alter table :app.shops add sizes lib.sizes
hash alter type lib.size add value 'l'
hash alter type lib.span rename to period

# Targets of foreign keys
hash alter table lib.countries add column flag text
hash alter table lib.countries rename column id to number
hash alter table lib.countries rename to lands
hash alter table lib.countries add unique (name)
hash alter table lib.countries drop constraint countries_pkey cascade
hash alter table lib.countries alter code type varchar(9)
hash alter table lib.units alter id type bigint
hash alter table lib.countries drop constraint countries_code_key
hash create index on lib.countries (name)
hash comment on table lib.countries is 'Where one can be.'
hash alter table lib.units rename column label to text
hash drop table lib.countries cascade
none alter table lib.ledger add column note text

# Inheritance
hash alter table lib.vehicles add column doors int
hash alter table lib.vehicles rename column wheels to tyres
hash alter table lib.vehicles alter wheels drop not null
hash alter table lib.vehicles drop column wheels
hash alter table lib.vehicles rename to conveyances
hash alter table :app.vans no inherit lib.vehicles

# Views on views: whether they can be updated
hash create or replace view lib.shown as select distinct id, name from lib.countries
hash create or replace view lib.shown as select id, name from lib.countries limit 1

# Schemas
hash alter schema lib rename to library
hash alter schema deep rename to deeper
hash drop schema deep cascade
hash alter type lib.addr set schema deep
hash alter domain lib.email set schema elsewhere
hash alter table lib.countries set schema elsewhere
hash create function elsewhere.take() returns void language plpgsql as $$ begin execute 'alter type lib.status ' || 'set schema elsewhere'; end $$; select elsewhere.take()
hash alter schema lib rename to held; alter schema elsewhere rename to lib
none alter schema elsewhere rename to nowhere
hash comment on schema lib is 'Common.'

# Rights
hash grant select on lib.countries to public
hash grant update (name) on lib.countries to :host
hash revoke select on lib.countries from :host
hash grant usage on schema lib to public
hash revoke usage on type lib.status from public
none grant select on lib.ledger to :host
hash alter table lib.countries owner to :host

# Extensions
hash create extension hstore schema elsewhere; alter extension hstore add type lib.status
hash alter extension plpgsql add function :app.pay(int)

# Rows
none insert into lib.countries (id, code) values (1, 'x')

# What has no schema
hash alter language plpgsql rename to pl
`);
