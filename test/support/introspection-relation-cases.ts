/** The cases of `introspection-cases.ts` about relations between tables, within and across schemas. */
import type { IntrospectionCase } from "./introspection-cases.ts";

export const relationCases: readonly IntrospectionCase[] = [
  {
    name: "foreign keys within the schema and to a shared one",
    sql: `create table $s.a (id int primary key, c text references shared.country);
      create table $s.b (id int primary key, a_id int unique references $s.a on delete cascade);`,
    shows: /bByAId|aByAId/,
  },
  {
    name: "foreign keys and types across two served schemas",
    schemas: ["$s", "$s_b"],
    sql: `create schema $s_b; create type $s_b.mood as enum ('x'); create table $s_b.a (id int primary key, m $s_b.mood);
      create table $s.a (id int primary key, b_id int references $s_b.a, m $s_b.mood);
      create table $s_b.c (id int primary key, a_id int references $s.a);`,
    shows: /aByBId|\w*AByBId/,
  },
  {
    name: "the same two schemas in the other order",
    schemas: ["$s_b", "$s"],
    sql: `create schema $s_b; create table $s_b.a (id int primary key);
      create table $s.a (id int primary key, b_id int references $s_b.a);`,
    shows: /type A /,
  },
  {
    name: "references to another tenant's schema, which also has unrelated objects",
    sql: `create schema $s_b; create table $s_b.top (id int primary key);
      create table $s_b.mid (id int primary key, top_id int references $s_b.top);
      create table $s_b.low (id int primary key, mid_id int references $s_b.mid);
      create type $s_b.mood as enum ('x');
      create table $s.a (id int primary key, mid_id int references $s_b.mid, m $s_b.mood, row $s_b.low);
      create table $s_b.back (id int primary key, a_id int references $s.a);`,
    shows: /enum \w*Mood/,
    hides: /type \w*Back|type \w*Top/,
  },
  {
    name: "partitions, some in a schema that is not served",
    sql: `create schema $s_b; create table $s.m (id int, at date, primary key (id, at)) partition by range (at);
      create table $s.m1 partition of $s.m for values from ('2026-01-01') to ('2026-02-01');
      create table $s_b.m2 partition of $s.m for values from ('2026-02-01') to ('2026-03-01');
      create table $s.ref (id int primary key, m_id int, m_at date, foreign key (m_id, m_at) references $s.m);`,
    shows: /type M /,
  },
  {
    name: "a partition whose parent is not served",
    sql: `create schema $s_b; create table $s_b.m (id int primary key, note text) partition by range (id);
      create table $s.m1 partition of $s_b.m for values from (1) to (10);
      create table $s.ref (id int primary key, m_id int references $s_b.m);`,
    fails: /m1 is partition child of m; but couldn't find that resource/,
  },
  {
    name: "inheritance, also from a schema that is not served",
    sql: `create schema $s_b; create table $s_b.base (id int primary key, n text not null); create table $s.other (x int);
      create table $s.child (more text) inherits ($s_b.base, $s.other);
      create table $s.grandchild () inherits ($s.child);`,
    shows: /type Grandchild /,
  },
  {
    name: "views with smart comments",
    sql: `create table $s.a (id int primary key, n text);
      create view $s.v as select id, n, id as a_id, 'se'::text as c, n as secret from $s.a;
      comment on view $s.v is E'@name looks\\n@primaryKey id\\n@unique n\\n@foreignKey (a_id) references a (id)\\n@foreignKey (c) references shared.country (code)\\nA view';
      comment on column $s.v.secret is '@omit'; comment on column $s.v.n is E'@notNull\\nThe name';`,
    shows: /type Look/,
  },
  {
    name: "smart comments that refer to quoted names, which refer to more",
    sql: `create table $s."A b" (id int primary key, odd_id int);
      comment on table $s."A b" is '@foreignKey (odd_id) references shared."Odd Name" (id)';
      create table $s.c (id int primary key, other int); comment on table $s.c is '@foreignKey (other) references "A b" (id)|@fieldName theOther';`,
    shows: /theOther/,
  },
  {
    name: "polymorphism and refs",
    sql: `create table $s.items (id serial primary key, type text not null, name text);
      create table $s.books (id int primary key references $s.items, pages int);
      create table $s.films (id int primary key references $s.items, minutes int);
      create table $s.shelves (id int primary key, item_id int references $s.items);
      comment on table $s.items is E'@interface mode:relational type:type\\n@type BOOK references:books\\n@type FILM references:films';
      comment on table $s.shelves is E'@ref content singular via:"(item_id)->items(id)"';`,
    shows: /interface Item /,
  },
  {
    name: "materialized views, unlogged tables and sequences",
    sql: `create table $s.a (id bigserial primary key, n text); create unlogged table $s.u (id int primary key);
      create materialized view $s.m as select id, n from $s.a; create unique index on $s.m (id); create sequence $s.s;`,
    shows: /type M /,
  },
  {
    name: "generated and identity columns",
    sql: `create table $s.a (id int generated always as identity primary key, k int generated by default as identity,
      n text, up text generated always as (upper(n)) stored);`,
    shows: /up: String/,
  },
  {
    name: "checks, exclusion constraints, partial and expression indexes",
    extensions: ["btree_gist"],
    sql: `create extension if not exists btree_gist schema ext;
      create table $s.a (id int primary key, room int, during tsrange, n text check (n <> ''), unique nulls not distinct (n),
        exclude using gist (room ext.gist_int4_ops with operator(pg_catalog.=), during with &&));
      create index on $s.a (lower(n)); create index on $s.a (room) where room > 1;`,
    shows: /aByN|during/,
  },
  {
    name: "typed tables, dropped columns and comments on everything",
    sql: `create type $s.t as (id int, n text); create table $s.a of $s.t (primary key (id)); comment on table $s.a is 'Typed';
      create table $s.b (id int primary key, gone text, n text); alter table $s.b drop column gone; alter table $s.b add z int;
      comment on column $s.b.z is 'Z'; comment on constraint b_pkey on $s.b is '@name x'; comment on schema $s is 'S'; comment on index $s.b_pkey is 'I';`,
    shows: /type B /,
  },
  {
    name: "row level security",
    sql: `create table $s.a (id int primary key); alter table $s.a enable row level security;
      create policy p on $s.a for select to public using (id > 0);`,
    shows: /type A /,
  },
  {
    name: "objects that were moved into the schema, and a schema that was renamed",
    schemas: ["$s", "$s_c"],
    sql: `create schema $s_b; create table $s_b.a (id serial primary key); create type $s_b.t as (x int);
      create domain $s_b.d as text; create function $s_b.f() returns $s_b.t stable language sql as 'select null::$s_b.t';
      alter table $s_b.a set schema $s; alter type $s_b.t set schema $s; alter domain $s_b.d set schema $s; alter function $s_b.f() set schema $s;
      create table $s_b.left_behind (id int primary key, d $s.d); alter schema $s_b rename to $s_c;`,
    shows: /type A [\s\S]*type \w*LeftBehind /,
  },
  {
    name: "the schema public",
    schemas: ["public"],
    sql: `create type public.tone as enum ('c'); create table public.song (id int primary key, t public.tone, c text references shared.country);
      create function public.song_title(s public.song) returns text stable language sql as 'select null::text';`,
    shows: /type Song [\s\S]*enum Tone/,
  },
  {
    name: "foreign tables",
    extensions: ["file_fdw"],
    sql: `create extension file_fdw schema ext; create server $s foreign data wrapper file_fdw;
      create foreign table $s.f (x int, s shared.size) server $s options (filename '/dev/null', format 'csv');`,
    shows: /type F /,
  },
  {
    name: "types that nothing uses",
    sql: `create type $s.e as enum ('a'); create domain $s.d as text; create type $s.c as (x int, e $s.e[]);
      create type $s.r as range (subtype = float8);`,
    shows: /type Query/,
  },
  { name: "an empty schema", sql: "", shows: /type Query/ },
];

export const enumTableCases: readonly IntrospectionCase[] = [
  {
    name: "a column of a shared table's row type, one of whose columns refers to an enum table",
    sql: `create table $s.a (id int primary key, r shared.ranked);`,
    shows: /enum SharedLevel/,
  },
  {
    name: "a domain tied by its name to an enum table of a shared schema",
    sql: `create table $s.a (id int primary key, l shared.level_enum_domain);`,
    shows: /l: SharedLevel/,
  },
  {
    name: "a domain tied by a smart comment to an enum table of a shared schema",
    sql: `create table $s.a (id int primary key, t shared.tagged);`,
    shows: /t: SharedLevel/,
  },
  {
    name: "foreign keys to an enum table of a shared schema",
    sql: `create table $s.a (id int primary key, l text references shared.level);`,
    shows: /enum SharedLevel[\s\S]*high/,
  },
  {
    name: "enum tables",
    sql: `create table $s.kind (k text primary key, d text); comment on table $s.kind is '@enum';
      insert into $s.kind values ('one', 'First'), ('two', null);
      create table $s.a (id int primary key, k text references $s.kind);
      create domain $s.kind_enum_domain as text; create table $s.b (id int primary key, k $s.kind_enum_domain);`,
    shows: /enum Kind[\s\S]*one/,
  },
  {
    name: "an enum table of another tenant's schema",
    sql: `create schema $s_b; create table $s_b.kind (k text primary key); comment on table $s_b.kind is '@enum';
      insert into $s_b.kind values ('only'); create table $s.a (id int primary key, k text references $s_b.kind);`,
    shows: /enum \w*Kind/,
  },
];
