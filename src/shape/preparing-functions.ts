/** Whether a tenant has functions that could leave a prepared statement in their session. */
import { anyPathFunction } from "./path-functions.ts";

/**
 * What an SQL or PL/pgSQL body must contain to prepare a statement, to run a string that does, or to create a
 * function from such a string; neither language allows escapes in keywords. Other uses of `do` and `create`,
 * which run no string, are excluded.
 */
const preparing = [
  String.raw`\m(prepare|execute)\M`,
  String.raw`\mdo\M(?!\s+(nothing|update|instead|also)\M)`,
  String.raw`\mcreate\M(?!\s+((local\s+|global\s+)?(temp|temporary)\s+)?(table|sequence|index)\M)`,
].join("|");
/**
 * Rules out most bodies cheaply: 5 µs for one of 650 characters, where `~*` with the words above takes 16
 * (PostgreSQL 18.4).
 */
const hint = String.raw`\m([pP][rR][eE][pP]|[eE][xX][eE][cC]|[cC][rR][eE][aA]|[dD][oO]\M)`;

/**
 * SQL, after `scopeCtes`: `preparing(able)`, whether any function of the path's schemas, including trigger
 * functions, could run PREPARE, or EXECUTE of a prepared statement. Only volatile functions can, and none
 * with a body in SQL standard form: PostgreSQL refuses both elsewhere, and so do its own functions that run a
 * string, such as `query_to_xml` (18.4). Nothing is known about functions in other languages. Extensions are
 * trusted like PostgreSQL, except xml2, one function of which runs its argument as SQL.
 *
 * Without an event trigger that reports new functions the answer could become outdated, so it is yes.
 */
export const preparingFunctionCtes = `\
preparing as (
  select not exists (
      select from pg_catalog.pg_event_trigger where evtname = 'rowhouse_ddl_command_end' and evtenabled in ('O', 'A')
    )
    or exists (select from pg_catalog.pg_extension where extname = 'xml2')
    or ${anyPathFunction(`case
          when l.lanname in ('sql', 'plpgsql') then p.provolatile = 'v' and p.prosrc ~ '${hint}' and p.prosrc ~* '${preparing}'
          else l.lanname <> 'internal'
        end`)} as able
)`;
