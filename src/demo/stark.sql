-- Unqualified, pg_group is pg_catalog.pg_group: this schema cannot share an instance. Runs after shop.sql.
create table :schema.pg_group (
  id integer generated always as identity primary key,
  label text not null
);
insert into :schema.pg_group (label)
select current_setting('demo.label') || ' ' || kind from unnest(array['wholesale', 'retail']) kind;
alter table products add column group_id integer references :schema.pg_group;
create index on products (group_id);
update products set group_id = 1 + id % 2;
grant select on :schema.pg_group to :anonymous, :user;
