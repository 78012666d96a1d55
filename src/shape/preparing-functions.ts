/** Whether a tenant has functions that could leave a prepared statement in their session. */
import { anyPathFunction } from "./path-functions.ts";

/**
 * What a body in SQL or PL/pgSQL has to say to prepare something, to run text that does, or to make a function of such text; no
 * keyword of either language can be escaped. What else begins with `do` or `create` and runs no text is left out.
 */
const preparing = [
  String.raw`\m(prepare|execute)\M`,
  String.raw`\mdo\M(?!\s+(nothing|update|instead|also)\M)`,
  String.raw`\mcreate\M(?!\s+((local\s+|global\s+)?(temp|temporary)\s+)?(table|sequence|index)\M)`,
].join("|");
/** Rules out most bodies first: 5 µs for one of 650 characters, where `~*` and the words above take 16 (PostgreSQL 18.4). */
const hint = String.raw`\m([pP][rR][eE][pP]|[eE][xX][eE][cC]|[cC][rR][eE][aA]|[dD][oO]\M)`;

/**
 * SQL, after `scopeCtes`: `preparing(able)`, whether any function of the path's schemas, a trigger's included, could run PREPARE, or EXECUTE of
 * what is prepared. Only volatile ones can, and none with a body in SQL standard form: PostgreSQL refuses both in any other, and so do its own functions that
 * run a text, such as `query_to_xml` (18.4). Of other languages than those two nothing is known; extensions' functions are
 * trusted as PostgreSQL is, but for the one of xml2 that runs whatever stands in its arguments.
 *
 * Where no event trigger tells of a function that is new the answer would not stay true, and so is yes.
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
