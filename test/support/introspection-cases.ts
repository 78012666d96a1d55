/** Contents of a tenant's schema, each with a trace in the SDL that proves that the case has an effect. */

export interface IntrospectionCase {
  readonly name: string;
  /** `$s` stands for the tenant's schema, `$s_b` and so on for further ones; `shared` and `public` are shared. */
  readonly sql: string;
  /** The served schemas; by default `$s` alone. */
  readonly schemas?: readonly string[];
  readonly shows?: RegExp;
  readonly hides?: RegExp;
  /** The error that stock PostGraphile itself reports instead of a schema. */
  readonly fails?: RegExp;
  readonly extensions?: readonly string[];
}

/** Shared by all cases, and by the tenants around them. */
export const sharedSql = `
  create schema shared;
  create schema ext;
  create table shared.country (code text primary key, label text not null, region_id int);
  create table shared.region (id int primary key);
  alter table shared.country add foreign key (region_id) references shared.region;
  create function shared.country_shout(c shared.country) returns text stable language sql as 'select upper(c.label)';
  create type shared.size as enum ('s', 'm', 'l');
  create type shared.flavour as enum ('sweet', 'sour');
  create domain shared.positive as int check (value > 0);
  create type shared.money2 as (amount shared.positive, currency text);
  create table shared."Odd Name" (id int primary key, next_id int);
  comment on table shared."Odd Name" is '@foreignKey (next_id) references region (id)';
  create table shared.unrelated (id int primary key);
`;

/** Shared, but in a separate database: PostGraphile reads every `@enum` table of a database, and orders by it. */
export const sharedEnumSql = `
  create table shared.level (id text primary key, description text);
  comment on table shared.level is '@enum';
  insert into shared.level values ('low', 'Low'), ('high', 'High');
  create domain shared.level_enum_domain as text;
  create domain shared.tagged as text;
  comment on domain shared.tagged is '@enum level';
  create table shared.ranked (id int primary key, level text references shared.level);
`;

export const typeCases: readonly IntrospectionCase[] = [
  {
    name: "enums",
    sql: `create type $s.mood as enum ('sad', 'very_ok'); comment on type $s.mood is 'How it feels';
      create table $s.a (id int primary key, m $s.mood not null default 'sad');`,
    shows: /enum Mood/,
  },
  {
    name: "domains over domains",
    sql: `create domain $s.d1 as text check (value <> ''); create domain $s.d2 as $s.d1 not null default 'x';
      comment on domain $s.d2 is 'The outer'; create table $s.a (id int primary key, d $s.d2);`,
    shows: /scalar D2/,
  },
  {
    name: "composites in composites",
    sql: `create type $s.inner as (x int, at timestamptz); create type $s.outer as (i $s.inner, n numeric(6,2));
      comment on column $s.outer.n is 'A number'; create table $s.a (id int primary key, o $s.outer);`,
    shows: /type Outer[\s\S]*type Inner|type Inner[\s\S]*type Outer/,
  },
  {
    name: "ranges of built-in and of user-defined types",
    sql: `create domain $s.grade as int; create type $s.grades as range (subtype = $s.grade);
      create table $s.a (id int primary key, g $s.grades, d daterange, n numrange);`,
    shows: /g: GradeRange/,
  },
  {
    name: "arrays of each kind of type",
    sql: `create type $s.mood as enum ('a'); create domain $s.name as text; create type $s.pair as (a int, b text);
      create type $s.span as range (subtype = float8); create domain $s.names as $s.name[];
      create table $s.a (id int primary key, a1 $s.mood[], a2 $s.name[], a3 $s.pair[], a4 $s.span[], a5 $s.names, a6 int[][]);`,
    shows: /a3: \[Pair\]/,
  },
  {
    name: "multiranges",
    sql: `create type $s.span as range (subtype = float8, multirange_type_name = $s.spans);
      create table $s.a (id int primary key, s $s.span, m $s.spans, i int4multirange);`,
    shows: /s: FloatRange/,
  },
  {
    name: "types of a shared schema, and the types they consist of",
    sql: `create table $s.a (id int primary key, s shared.size, p shared.positive, m shared.money2, c shared.country,
        only_in_array shared.flavour[]);
      create function $s.sizes() returns shared.size[] stable language sql as 'select array[''s'']::shared.size[]';`,
    shows: /enum SharedFlavour [\s\S]*type SharedMoney2 |type SharedMoney2 [\s\S]*enum SharedFlavour /,
  },
  {
    name: "types of information_schema and rows of pg_catalog",
    sql: `create view $s.v as select table_name, is_nullable, ordinal_position from information_schema.columns;
      create view $s.w as select oid, relname, reloptions from pg_class;
      create table $s.a (id int primary key, c pg_catalog.pg_class, n name, x xid8, r regclass);`,
    shows: /type W /,
  },
  {
    name: "citext, hstore and ltree in a schema of their own",
    extensions: ["citext", "hstore", "ltree"],
    sql: `create extension if not exists citext schema ext; create extension if not exists hstore schema ext;
      create extension if not exists ltree schema ext; create domain $s.email as ext.citext;
      create table $s.a (id int primary key, c ext.citext, h ext.hstore, l ext.ltree, ls ext.ltree[], cs ext.citext[], e $s.email);`,
    shows: /l: LTree/,
  },
  {
    name: "an extension in the served schema",
    extensions: ["pg_trgm"],
    sql: `create extension pg_trgm schema $s; create table $s.a (id int primary key, n text);
      create index on $s.a using gin (n $s.gin_trgm_ops);`,
    shows: /type A /,
    hides: /similarity/i,
  },
];

export const functionCases: readonly IntrospectionCase[] = [
  {
    name: "computed columns",
    sql: `create table $s.a (id int primary key, n text);
      create function $s.a_long(a $s.a, times int default 2) returns text stable language sql as 'select repeat(a.n, times)';
      create function $s.a_all(a $s.a) returns setof $s.a stable language sql as 'select * from $s.a';`,
    shows: /long\(times: Int\): String/,
  },
  {
    name: "computed columns of a shared table, which stay hidden",
    sql: `create table $s.a (id int primary key, country shared.country);`,
    shows: /type SharedCountry/,
    hides: /shout/i,
  },
  {
    name: "functions with defaults, variadic, strict and with a smart comment",
    sql: `create function $s.f(a int, b text default 'x', c int default null) returns text stable strict language sql as 'select b';
      create function $s.g(variadic xs int[]) returns int stable language sql as 'select 1';
      create function $s.h(x int) returns int immutable language sql as 'select x'; comment on function $s.h is E'@name double\\nDoubles';`,
    shows: /double\(x: Int\): Int/,
  },
  {
    name: "functions that return sets of rows, scalars and domains",
    sql: `create table $s.a (id int primary key); create domain $s.d as int;
      create function $s.f() returns setof $s.a stable language sql as 'select * from $s.a';
      create function $s.g(n int) returns setof int stable language sql as 'select 1';
      create function $s.k() returns setof $s.d stable language sql as 'select 1::$s.d';`,
    shows: /g\(\s*n: Int/,
  },
  {
    name: "polymorphic functions",
    sql: `create table $s.a (id int primary key);
      create function $s.f(x anyelement) returns anyelement stable language sql as 'select x';
      create function $s.g(x anyarray) returns anyelement stable language sql as 'select x[1]';
      create function $s.h(x anycompatiblerange) returns bool stable language sql as 'select true';`,
    shows: /type A /,
  },
  {
    name: "functions with out and inout parameters",
    sql: `create domain $s.d as text;
      create function $s.f(out x int, out y $s.d) stable language sql as 'select 1, ''a''::$s.d';
      create function $s.g(inout x int, in z text) stable language sql as 'select x';`,
    shows: /type FRecord/,
  },
  {
    name: "functions that return tables",
    sql: `create type $s.mood as enum ('a');
      create function $s.f(n int) returns table (a int, m $s.mood, c shared.country) stable language sql as 'select 1, ''a''::$s.mood, null::shared.country';`,
    shows: /type FRecord/,
  },
  {
    name: "functions with composite arguments and results of another schema",
    sql: `create schema $s_b; create table $s_b.far (id int primary key, tags text[]); create type $s_b.pair as (x int, y $s_b.far);
      create function $s.f(p $s_b.pair, all_of $s_b.pair[]) returns $s_b.pair stable language sql as 'select p';
      create function $s.g() returns setof $s_b.far stable language sql as 'select * from $s_b.far';`,
    shows: /\w*Pair/,
  },
  {
    name: "overloads, procedures, aggregates, trigger functions and names with two underscores",
    sql: `create table $s.a (id int primary key);
      create function $s.f(a int) returns int stable language sql as 'select 1';
      create function $s.f(a text) returns int stable language sql as 'select 1';
      create function $s.__g() returns int stable language sql as 'select 1';
      create procedure $s.p(x int) language sql as 'select 1';
      create aggregate $s.agg(int) (sfunc = pg_catalog.int4pl, stype = int);
      create function $s.t() returns trigger language plpgsql as 'begin return new; end';
      create trigger t before insert on $s.a for each row execute function $s.t();`,
    shows: /type A /,
  },
  {
    name: "mutations and functions that nothing may execute",
    sql: `create table $s.a (id int primary key);
      create function $s.make(n int) returns $s.a language sql as 'insert into $s.a values (n) returning *';
      create function $s.nothing() returns void language sql as 'select 1';`,
    shows: /make\(/,
  },
];
