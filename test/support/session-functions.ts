/** Session functions for tests' tenants: one that knows tokens, and many that misbehave. */

/** Makes role names unique, because roles belong to the whole server, which other tests use as well. */
export const suffix = Math.random().toString(36).slice(2, 8);
/** The advisory lock that `waits` waits for. */
export const sessionGate = 77;
export const anonymousOf = (id: string): string => `${id}_anonymous_${suffix}`;
export const userOf = (id: string): string => `${id}_user_${suffix}`;

/** A tenant's sessions, the function that knows them, and some that misbehave. */
export const sessionSql = (id: string): string => `
  create role ${anonymousOf(id)} nologin; create role ${userOf(id)} nologin;
  grant ${anonymousOf(id)}, ${userOf(id)} to ask_host_${suffix} with inherit false, set true;
  create schema ${id}; grant usage on schema ${id} to ${anonymousOf(id)};
  create table ${id}.session (token text primary key, answer jsonb);
  create table ${id}.call (n bigint generated always as identity);
  create function ${id}.authenticate(token text) returns jsonb language sql stable security definer
    set search_path = ${id}, pg_temp as $$ select answer from session s where s.token = authenticate.token $$;
  create function ${id}.whose(token text) returns jsonb language sql stable as $$
    select jsonb_build_object('claims', jsonb_build_object('who', current_user, 'path', current_setting('search_path'),
      'writes', current_setting('transaction_read_only'), 'left', coalesce(current_setting('ask.left', true), ''), 'temp', to_regclass('pg_temp.left') is not null)) $$;
  create function ${id}.leaves(token text) returns jsonb language plpgsql volatile as $$
    begin perform set_config('ask.left', token, false), set_config('role', '${userOf(id)}', false), pg_advisory_lock(42);
      return '{"claims": {"n": 1}}'::jsonb; end $$;
  create function ${id}.writes(token text) returns jsonb language plpgsql volatile security definer as $$
    begin insert into ${id}.call default values; return '{}'::jsonb; end $$;
  -- With a variable of a row that was not found, and with parameters that nothing was put in.
  create function ${id}.finds_no_row(token text) returns jsonb language plpgsql stable security definer set search_path = ${id}, pg_temp as $$
    declare found_one session;
    begin select * into found_one from session s where s.token = finds_no_row.token;
      return jsonb_build_object('role', found_one.answer ->> 'role', 'claims', jsonb_build_object('user_id', found_one.token)); end $$;
  create function ${id}.says_nothing(token text, out role text, out claims jsonb) language plpgsql stable as $$ begin end $$;
  create function ${id}.casts(token text) returns jsonb language sql stable as $$ select jsonb_build_object('claims', jsonb_build_object('id', token::uuid)) $$;
  create function ${id}.raises(token text) returns jsonb language plpgsql stable as $$ begin raise exception 'no % here', token; end $$;
  create function ${id}.denies(token text) returns jsonb language plpgsql stable as $$ begin raise 'no' using errcode = '28000'; end $$;
  create function ${id}.breaks(token text) returns jsonb language sql stable as $$ select to_jsonb(1) from missing_table $$;
  create function ${id}.hangs(token text) returns jsonb language sql stable as $$ select '{}'::jsonb from pg_sleep(60) $$;
  -- For as long as the test holds that lock.
  create function ${id}.waits(token text) returns jsonb language sql stable as $$ select '{"claims": {"n": 1}}'::jsonb from pg_advisory_xact_lock_shared(${sessionGate}) $$;
  create function ${id}.is_full(token text) returns jsonb language plpgsql stable as $$ begin raise 'sorry, too many clients' using errcode = '53300'; end $$;
  create function ${id}.is_text(token text) returns text language sql stable as $$ select token $$;
  create function ${id}.is_many(token text) returns setof jsonb language sql stable as $$ select '{}'::jsonb from generate_series(1, 2) $$;
  create function ${id}.is_huge(token text) returns jsonb language sql stable as $$ select jsonb_build_object('claims', jsonb_build_object('x', repeat('x', 100000))) $$;
`;
