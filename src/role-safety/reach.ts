/** Finds SQL in a tenant's schemas that could reach other tenants' data: where it is, and by what means. */

import { z } from "zod";
import { HostError } from "../shared/kernel/errors.ts";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { bodyReaches, bodyReasons } from "./reach-bodies.ts";

/** An object whose SQL could reach beyond its tenant. */
export interface Reaching {
  /** For example `view`. */
  readonly kind: string;
  /** The schema's name in PostgreSQL. */
  readonly schema: string;
  /** As in SQL, without the schema: `orders`, `orders.total` for one of its columns, `audit` for a function. */
  readonly name: string;
  /** The means: functions that it calls, or what its body contains. */
  readonly by: string;
  /** Whether it affects all tenants, because it belongs to the database or is in a shared schema. */
  readonly shared: boolean;
}

/**
 * PostgreSQL's own functions by which an expression can reach beyond its tenant (all 3,413 of 18.4 were
 * examined, and those of 15 too).
 */
export const builtIn: readonly string[] = [
  // Changes the role: to any that the host's login may take, or to the login itself.
  "set_config",
  // Run a string as SQL, or read the table that a string names.
  ...["query", "cursor", "table", "schema", "database"].flatMap((what) => [
    `${what}_to_xml`,
    `${what}_to_xmlschema`,
    ...(what === "cursor" ? [] : [`${what}_to_xml_and_xmlschema`]),
  ]),
  "ts_stat",
  "ts_rewrite",
  // Lists what is prepared on the connection, for other tenants too.
  "pg_prepared_statement",
  // Take locks that belong to the whole database, including those for other tenants' writes and migrations.
  ...["advisory", "advisory_xact"].flatMap((span) =>
    [`pg_${span}_lock`, `pg_try_${span}_lock`].flatMap((name) => [name, `${name}_shared`]),
  ),
  ...["pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"],
  // End other sessions' work, or read what they have written.
  ...["pg_cancel_backend", "pg_terminate_backend"],
  ...["get", "peek"].flatMap((how) => [
    `pg_logical_slot_${how}_changes`,
    `pg_logical_slot_${how}_binary_changes`,
  ]),
  // Access large objects, which belong to the database and to no schema.
  ...[
    "close",
    "creat",
    "create",
    "export",
    "from_bytea",
    "get",
    "import",
    "lseek",
    "lseek64",
    "open",
    "put",
  ].map((name) => `lo_${name}`),
  ...["lo_tell", "lo_tell64", "lo_truncate", "lo_truncate64", "lo_unlink", "loread", "lowrite"],
  // Read the server's files, if the privilege was granted.
  ...[
    "pg_read_file",
    "pg_read_file_old",
    "pg_read_binary_file",
    "pg_stat_file",
    "pg_current_logfile",
    "pg_hba_file_rules",
  ],
  ...["pg_ident_file_mappings", "pg_show_all_file_settings", "pg_ls_dir", "pg_ls_logdir", "pg_ls_waldir"],
  ...["pg_ls_archive_statusdir", "pg_ls_logicalmapdir", "pg_ls_logicalsnapdir", "pg_ls_replslotdir"],
  ...["pg_ls_summariesdir", "pg_ls_tmpdir"],
];

/**
 * Extensions that run a string as SQL, here or elsewhere, and by which of their functions; other extensions
 * are trusted like PostgreSQL itself.
 */
const ofExtensions = {
  names: ["dblink", "tablefunc", "xml2", "refint"],
  functions: "^(dblink.*|crosstab.*|connectby|xpath_table|check_primary_key|check_foreign_key)$",
};

const list = (texts: readonly string[]): string => texts.map((text) => `'${text}'`).join(", ");

/** The objects of a schema, through an index; "offset 0" keeps each a lookup, whatever the statistics say. */
const within = (catalogue: string): string => `(
    select objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = place.oid and classid = 'pg_catalog.${catalogue}'::regclass
    offset 0
  ) d`;

/**
 * A regular expression of all those oids takes 20 µs for the shortest tree, because PostgreSQL compiles it
 * each time; this takes 2.
 */
const suspect = (tree: string): string => `(
    exists (
      select from pg_catalog.unnest(pg_catalog.string_to_array(${tree}::text, 'funcid ')) piece
      where pg_catalog.split_part(pg_catalog.left(piece, 11), ' ', 1) = any ((select calls from searched)::text[])
    )
    or pg_catalog.strpos(${tree}::text, (select settings from searched)) > 0
    or pg_catalog.strpos(${tree}::text, (select statements from searched)) > 0
  )`;

/**
 * Expressions are stored as trees in which each call contains its function's oid; PostgreSQL records no
 * dependency on built-in functions. Expressions that must be immutable (indexes, generated columns, partition
 * keys) can call none of these. Functions in schemas that the tenant's record does not name are not examined.
 */
const text = `
with
place as (
  select oid, nspname from pg_catalog.pg_namespace where nspname = any ($1::text[] || $2::text[])
),
dangerous as materialized (
  select p.oid, p.proname::text as name from pg_catalog.pg_proc p
  where p.proname = any (array[${list(builtIn)}]::name[]) and p.pronamespace = 'pg_catalog'::regnamespace
    -- The other overload takes no string.
    and (p.proname <> 'ts_rewrite' or p.pronargs = 2)
  union all
  select p.oid, p.proname from pg_catalog.pg_extension e
  cross join lateral (
    select objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_extension'::regclass and refobjid = e.oid and classid = 'pg_catalog.pg_proc'::regclass
    offset 0
  ) d
  cross join lateral (select oid, proname from pg_catalog.pg_proc where oid = d.objid offset 0) p
  where e.extname in (${list(ofExtensions.names)}) and p.proname ~ '${ofExtensions.functions}'
),
searched as materialized (
  select pg_catalog.array_agg(oid::text) as calls,
    -- Updating pg_settings, or a view of it, calls set_config through its rule.
    ':relid ' || 'pg_catalog.pg_settings'::regclass::oid || ' ' as settings,
    ':relid ' || 'pg_catalog.pg_prepared_statements'::regclass::oid || ' ' as statements
  from dangerous
),
relation as (
  select place.nspname, c.oid, pg_catalog.quote_ident(c.relname) as name, c.relkind, c.relhasrules, c.relhastriggers, c.relchecks
  from place cross join lateral ${within("pg_class")}
  cross join lateral (
    select oid, relname, relkind, relhasrules, relhastriggers, relchecks from pg_catalog.pg_class
    where oid = d.objid and relkind in ('r', 'p', 'v', 'm', 'f') offset 0
  ) c
),
type as (
  select place.nspname, t.oid, pg_catalog.quote_ident(t.typname) as name, t.typdefaultbin
  from place cross join lateral ${within("pg_type")}
  cross join lateral (
    select oid, typname, typdefaultbin from pg_catalog.pg_type where oid = d.objid and typtype = 'd' offset 0
  ) t
),
routine as (
  select place.nspname, p.* from place cross join lateral ${within("pg_proc")}
  cross join lateral (
    select p.oid, pg_catalog.quote_ident(p.proname) as name, p.prokind, l.lanname, p.prosrc, p.prosqlbody, p.proargdefaults, p.proconfig
    from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
    where p.oid = d.objid and (
      p.prokind = 'a' or l.lanname not in ('sql', 'plpgsql') or p.proconfig is not null
      or case when p.prosqlbody is null then ${bodyReaches("p.prosrc", builtIn)} else ${suspect("p.prosqlbody")} end
      or ${suspect("p.proargdefaults")}
    )
    offset 0
  ) p
),
stored(nspname, class, oid, kind, name, tree, function) as (
  select nspname, 'pg_class', relation.oid,
    case when w.rulename <> '_RETURN' then 'rule' when relkind = 'm' then 'materialized view' else 'view' end,
    name || case when w.rulename = '_RETURN' then '' else '.' || pg_catalog.quote_ident(w.rulename) end, tree, null::oid
  from relation cross join lateral (
    select rulename, ev_action::text || ev_qual::text as tree from pg_catalog.pg_rewrite
    where ev_class = relation.oid and (${suspect("ev_action")} or ${suspect("ev_qual")}) offset 0
  ) w
  where relhasrules
  union all
  select nspname, 'pg_class', relation.oid, 'column', name || '.' || pg_catalog.quote_ident(a.attname), tree, null
  from relation cross join lateral (
    select adnum, adbin::text as tree from pg_catalog.pg_attrdef where adrelid = relation.oid and ${suspect("adbin")} offset 0
  ) w
  cross join lateral (
    select attname from pg_catalog.pg_attribute where attrelid = relation.oid and attnum = w.adnum offset 0
  ) a
  union all
  select nspname, 'pg_class', relation.oid, 'check', name || '.' || pg_catalog.quote_ident(w.conname), tree, null
  from relation cross join lateral (
    select conname, conbin::text as tree from pg_catalog.pg_constraint where conrelid = relation.oid and contype = 'c' and ${suspect("conbin")} offset 0
  ) w
  where relchecks > 0
  union all
  select nspname, 'pg_class', relation.oid, 'policy', name || '.' || pg_catalog.quote_ident(w.polname), tree, null
  from relation cross join lateral (
    select polname, pg_catalog.concat(polqual::text, polwithcheck::text) as tree from pg_catalog.pg_policy
    where polrelid = relation.oid and (${suspect("polqual")} or ${suspect("polwithcheck")}) offset 0
  ) w
  union all
  select nspname, 'pg_class', relation.oid, 'trigger', name || '.' || pg_catalog.quote_ident(w.tgname), tree, w.tgfoid
  from relation cross join lateral (
    select tgname, tgqual::text as tree, tgfoid from pg_catalog.pg_trigger
    where tgrelid = relation.oid and not tgisinternal
      and (${suspect("tgqual")} or tgfoid in (select oid from dangerous)) offset 0
  ) w
  where relhastriggers
  union all
  select nspname, 'pg_type', oid, 'domain', name, typdefaultbin::text, null
  from type where ${suspect("typdefaultbin")}
  union all
  select nspname, 'pg_type', type.oid, 'domain', name, tree, null
  from type cross join lateral (
    select conbin::text as tree from pg_catalog.pg_constraint where contypid = type.oid and ${suspect("conbin")} offset 0
  ) w
  union all
  select place.nspname, 'pg_operator', o.oid, 'operator', o.oprname::text, null, o.oprcode::oid
  from place cross join lateral ${within("pg_operator")}
  cross join lateral (
    select oid, oprname, oprcode from pg_catalog.pg_operator where oid = d.objid and oprcode in (select oid from dangerous) offset 0
  ) o
  union all
  select nspname, 'pg_proc', routine.oid, 'aggregate', name, null, w.function
  from routine cross join lateral (
    select pg_catalog.unnest(array[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn, aggmfinalfn])::oid as function
    from pg_catalog.pg_aggregate where aggfnoid = routine.oid offset 0
  ) w
  where prokind = 'a' and w.function in (select oid from dangerous)
  union all
  select nspname, 'pg_proc', oid, case prokind when 'p' then 'procedure' else 'function' end, name,
    pg_catalog.concat(prosqlbody::text, proargdefaults::text), null
  from routine where prokind <> 'a' and (${suspect("prosqlbody")} or ${suspect("proargdefaults")})
),
reaching(nspname, class, oid, kind, name, reason) as (
  select nspname, class, stored.oid, kind, stored.name, dangerous.name
  from stored join dangerous
    on dangerous.oid = stored.function or pg_catalog.strpos(stored.tree, 'funcid ' || dangerous.oid || ' ') > 0
  union all
  select nspname, class, oid, kind, name, 'pg_settings' from stored
  where pg_catalog.strpos(tree, (select settings from searched)) > 0
  union all
  select nspname, class, oid, kind, name, 'pg_prepared_statements' from stored
  where pg_catalog.strpos(tree, (select statements from searched)) > 0
  union all
  select nspname, 'pg_proc', routine.oid, case prokind when 'p' then 'procedure' else 'function' end, name, reason
  from routine cross join lateral (
    select reason from (${bodyReasons("prosrc", builtIn)}) said where prosqlbody is null and lanname in ('sql', 'plpgsql')
    union all
    select 'a body in ' || lanname where lanname not in ('sql', 'plpgsql')
    union all
    select pg_catalog.split_part(setting, '=', 1) || ' in its settings'
    from pg_catalog.unnest(proconfig) setting where setting ~* '^(role|session_authorization)='
  ) w
  where prokind <> 'a' and reason is not null
),
-- dblink's connections belong to the session, and so reach its next user.
dblink as (
  select n.nspname, n.nspacl, p.oid, p.proacl, p.proowner, p.pronamespace
  from pg_catalog.pg_extension e
  cross join lateral (select nspname, nspacl from pg_catalog.pg_namespace where oid = e.extnamespace offset 0) n
  cross join lateral (
    select objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_extension'::regclass and refobjid = e.oid and classid = 'pg_catalog.pg_proc'::regclass
    offset 0
  ) d
  cross join lateral (
    select oid, proacl, proowner, pronamespace from pg_catalog.pg_proc where oid = d.objid and proname ~ '^dblink' offset 0
  ) p
  where e.extname = 'dblink'
),
executor as (
  select dblink.nspname, exists (
      select from pg_catalog.aclexplode(coalesce(dblink.proacl, pg_catalog.acldefault('f', dblink.proowner))) a where a.grantee = 0
    ) and exists (select from pg_catalog.aclexplode(dblink.nspacl) a where a.grantee = 0 and a.privilege_type = 'USAGE') as everyone,
    array(
      select r.rolname::text from pg_catalog.pg_roles r
      where r.rolname = any (case when pg_catalog.cardinality($3::text[]) = 0 then array[session_user::text] else $3::text[] end)
        and pg_catalog.has_schema_privilege(r.oid, dblink.pronamespace, 'USAGE')
        and pg_catalog.has_function_privilege(r.oid, dblink.oid, 'EXECUTE')
      order by 1
    ) as roles
  from dblink
)
select 'extension' as kind, nspname::text as schema, 'dblink' as name,
  case when everyone then 'functions that everyone may execute'
    else 'functions that role ' || pg_catalog.quote_ident(roles[1]) || ' may execute' end as by, everyone as shared
from (select nspname, bool_or(everyone) as everyone, pg_catalog.min(roles) as roles from executor
  where everyone or pg_catalog.cardinality(roles) > 0 group by nspname) found
union all
(select kind, nspname::text, name, pg_catalog.string_agg(distinct reason, ', ' order by reason), nspname = any ($2::text[])
from reaching
where (
  -- A count, because "exists" would be planned as a join that reads all of pg_depend.
  select pg_catalog.count(*) from pg_catalog.pg_depend e
  where e.classid = ('pg_catalog.' || reaching.class)::regclass and e.objid = reaching.oid and e.deptype = 'e'
  -- Whoever owns an extension may add objects of their own to it.
  and exists (
    select from pg_catalog.pg_roles owner where owner.rolsuper and owner.oid = case reaching.class
      when 'pg_proc' then (select proowner from pg_catalog.pg_proc where oid = reaching.oid)
      else (select relowner from pg_catalog.pg_class where oid = reaching.oid) end
  )
) = 0
group by nspname, kind, name)
order by 2, 1, 3`;

export type ReachInput = Pick<Tenant, "schemas" | "sharedSchemas" | "roles">;

/** Run it after `probeSettings`; it returns one row per object that reaches beyond its tenant. */
export function reachQuery(tenant: ReachInput): { text: string; values: unknown[] } {
  return { text, values: [physicalNames(tenant.schemas), tenant.sharedSchemas, listedRoles(tenant.roles)] };
}

const reachingRow = z.object({
  kind: z.string(),
  schema: z.string(),
  name: z.string(),
  by: z.string(),
  shared: z.boolean(),
});

/** Parses the query's rows; throws `INTERNAL` for anything else. */
export function parseReaching(rows: readonly unknown[]): readonly Reaching[] {
  const parsed = z.array(reachingRow).safeParse(rows);
  if (parsed.success) return parsed.data;
  throw new HostError(
    "INTERNAL",
    "the query for SQL that reaches beyond the tenant returned an unexpected result",
    {
      cause: parsed.error,
    },
  );
}
