/** Two served schemas with objects that presets treat specially, and a third that is only referred to. */

export const elsewhereSql = `
create schema elsewhere;
create type elsewhere.grade as enum ('low', 'high');
create type elsewhere.address as (street text, city text);
grant usage on schema elsewhere to public;
`;

/** `app` and `side` are the names of the schemas; `tag` is stored in a row. */
export const streetSql = (app: string, side: string, role: string, tag: string): string => `
create schema ${app};
create schema ${side};
set local search_path = ${app}, ${side}, pg_temp;

create table ${app}.kind (name text primary key, description text);
comment on table ${app}.kind is E'@enum\\nWhat kind a maker is of.';
insert into ${app}.kind values ('small', 'Up to ten people'), ('large', null);

create domain ${app}.stars as int check (value between 1 and 5);
create table ${app}.maker (
  id int generated always as identity primary key,
  name text not null unique,
  kind text not null references ${app}.kind,
  grade elsewhere.grade,
  address elsewhere.address,
  secret text,
  born timestamptz not null default now()
);
comment on column ${app}.maker.secret is '@omit';
comment on column ${app}.maker.grade is E'@deprecated Ask for the kind.\\nHow good it is.';

create table ${app}.item (
  id int generated always as identity primary key,
  maker_id int not null references ${app}.maker on delete cascade,
  parent_id int references ${app}.item,
  title text not null,
  price numeric(10, 2),
  sizes int[] not null default '{}',
  sold_in daterange,
  meta jsonb,
  search tsvector,
  upper_title text generated always as (upper(title)) stored
);
create index on ${app}.item (maker_id);
create index on ${app}.item (parent_id);
comment on table ${app}.item is E'@name product\\nWhat is sold.';

create table ${app}.tag (id int primary key, label text not null);
insert into ${app}.tag values (1, '${tag}');
create table ${app}.item_tag (
  item_id int not null references ${app}.item,
  tag_id int not null references ${app}.tag,
  primary key (item_id, tag_id)
);
create index on ${app}.item_tag (tag_id);

create table ${side}.review (
  id int generated always as identity primary key,
  item_id int not null references ${app}.item,
  stars ${app}.stars not null,
  body text
);
create index on ${side}.review (item_id);
create table ${side}.note (id int primary key, app_maker_id int unique references ${app}.maker, note text);
create type ${side}.mood as enum ('calm', 'keen-eyed');
create type ${side}.summary as (label text, mood ${side}.mood);

create view ${app}.item_overview as
  select m.id as maker_id, count(*) as items, max(i.price) as dearest from ${app}.maker m join ${app}.item i on i.maker_id = m.id group by m.id;
comment on view ${app}.item_overview is E'@primaryKey maker_id\\n@foreignKey (maker_id) references maker (id)';
create view ${app}.cheap_item as select id, title, price from ${app}.item where price < 10;
create materialized view ${app}.item_count as select count(*) as n from ${app}.item;

create type ${app}.session as (role text, person_id int);
create function ${app}.login(name text) returns ${app}.session language sql volatile as
  $$ select ('x', 1)::${app}.session $$;
create function ${app}.item_label(item ${app}.item) returns text language sql stable as $$ select item.title $$;
create function ${app}.item_reviews_above(item ${app}.item, at_least int) returns setof ${side}.review language sql stable as
  $$ select * from ${side}.review r where r.item_id = item.id and r.stars >= at_least $$;
create function ${app}.search_items(term text, most int default 10) returns setof ${app}.item language sql stable as
  $$ select * from ${app}.item where title ilike '%' || term || '%' limit most $$;
create function ${app}.address_of(maker_id int) returns elsewhere.address language sql stable as
  $$ select address from ${app}.maker where id = maker_id $$;
create function ${side}.summary_of(mood ${side}.mood) returns ${side}.summary language sql stable as
  $$ select ('x', mood)::${side}.summary $$;
create function ${app}.rate(item_id int, stars ${app}.stars, out review_id int, out total bigint) language sql volatile as
  $$ select 1, 2::bigint $$;
create function ${app}.touch(ids int[]) returns void language sql volatile as $$ select $$;

grant usage on schema ${app}, ${side} to ${role};
grant select, insert, update, delete on all tables in schema ${app}, ${side} to ${role};
`;
