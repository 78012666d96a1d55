/** A tenant with some of everything that PostGraphile serves; its schema and its role are called `name`. */
export function workerTenantSql(name: string): string {
  return `
  set check_function_bodies = off;
  create schema ${name};
  create type ${name}.mood as enum ('sad', 'happy');
  create domain ${name}.email as text check (value ~ '@');
  create type ${name}.place as (street text, town text);
  create table ${name}.person (
    id int primary key generated always as identity, name text not null, mood ${name}.mood default 'happy',
    email ${name}.email, home ${name}.place, tags text[], age int4range, extra jsonb, born timestamptz
  );
  create table ${name}.pet (
    id int primary key generated always as identity, name text not null,
    owner_id int not null references ${name}.person on delete cascade
  );
  create index on ${name}.pet (owner_id);
  create index on ${name}.person (name);
  create index on ${name}.person (mood);
  create function ${name}.person_shout(p ${name}.person) returns text stable language sql
    as 'select upper(p.name)';
  create function ${name}.people_in(feeling ${name}.mood) returns setof ${name}.person stable language sql
    as 'select * from person where mood = feeling';
  create function ${name}.whoami() returns text stable language sql
    as 'select current_user || '' '' || current_setting(''search_path'')';
  create function ${name}.rename_all(suffix text) returns setof ${name}.person volatile language sql
    as 'update person set name = name || suffix returning *';
  create function ${name}.divide(by int) returns int stable language sql as 'select 1 / by';
  create function ${name}.sleep(seconds float) returns int stable language sql
    as 'select 1 from pg_sleep(seconds)';
  create function ${name}.big(bytes int) returns text stable language sql as 'select repeat(''x'', bytes)';
  insert into ${name}.person (name, email, home, tags, age, extra)
    select '${name} ' || n, n || '@${name}', row('street ' || n, 'town')::${name}.place, array['a', 'b'], int4range(n, 2 * n + 1), '{"n": 1}'
    from generate_series(1, 5) n;
  insert into ${name}.pet (name, owner_id) select '${name} pet ' || n, n from generate_series(1, 5) n;
  do $$ begin create role ${name}; exception when duplicate_object or unique_violation then null; end $$;
  grant usage on schema ${name} to ${name};
  grant select, insert, update, delete on all tables in schema ${name} to ${name};
`;
}
