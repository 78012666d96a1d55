/** Writes values of `regclass` and its like with their schema where PostgreSQL omits it because of the request's search path. */
import { LIST_TYPES, TYPES } from "postgraphile/@dataplan/pg";
import { type SQL, sql } from "postgraphile/pg-sql2";

type Cast = (value: SQL) => SQL;

/**
 * Set for requests of dedicated instances. A pooled instance omits the schema, because its name is one tenant's, while the SQL is
 * the same for all.
 */
export const qualifiedSetting = "rowhouse.qualified";

const qualified = sql`pg_catalog.current_setting(${sql.literal(qualifiedSetting)}, true) = 'on'`;

/** The prefix that a connection without a search path of its own would write: everything in other schemas is qualified. */
const schemaOf = (namespace: SQL): SQL =>
  sql`case when ${namespace} not in ('pg_catalog', 'public') then pg_catalog.quote_ident(${namespace}) || '.' else '' end`;

/** For types whose text is a single name; `written` is that name as a row of `catalogue` contains it. */
const simple =
  (catalogue: string, prefix: string, written: (name: SQL) => SQL): Cast =>
  (value) =>
    sql`(select case when ${qualified} and v.reg::pg_catalog.text = ${written(sql`o.${sql.identifier(`${prefix}name`)}`)}
  then ${schemaOf(sql`n.nspname`)} else '' end || v.reg::pg_catalog.text
from (select ${value} as reg) v
left join pg_catalog.${sql.identifier(catalogue)} o on o.oid operator(pg_catalog.=) v.reg::pg_catalog.oid
left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) o.${sql.identifier(`${prefix}namespace`)})`;

const quoted = (name: SQL): SQL => sql`pg_catalog.quote_ident(${name})`;

/** The text for a type's oid; null if there is no such type. */
const typeText = (oid: SQL): SQL =>
  sql`(select case when w.written in (pg_catalog.quote_ident(e.typname), pg_catalog.quote_ident(e.typname) || '[]')
  then ${schemaOf(sql`n.nspname`)} else '' end || w.written
from pg_catalog.pg_type t
cross join lateral (select pg_catalog.format_type(t.oid, null) as written) w
join pg_catalog.pg_type e on e.oid operator(pg_catalog.=) case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem else t.oid end
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.typnamespace
where t.oid operator(pg_catalog.=) ${oid})`;

const otherwise = (value: SQL, text: (oid: SQL) => SQL): SQL =>
  sql`(select coalesce(case when ${qualified} then ${text(sql`v.reg::pg_catalog.oid`)} end, v.reg::pg_catalog.text)
from (select ${value} as reg) v)`;

const procedure = (oid: SQL): SQL =>
  sql`(select ${schemaOf(sql`n.nspname`)} || pg_catalog.quote_ident(p.proname) || '(' || coalesce((
  select pg_catalog.string_agg(${typeText(sql`a.type`)}, ',' order by a.ord)
  from pg_catalog.unnest(p.proargtypes::pg_catalog.oid[]) with ordinality a(type, ord)
), '') || ')'
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) p.pronamespace
where p.oid operator(pg_catalog.=) ${oid})`;

const operator = (oid: SQL): SQL =>
  sql`(select ${schemaOf(sql`n.nspname`)} || o.oprname || '(' || coalesce(${typeText(sql`o.oprleft`)}, 'NONE')
  || ',' || coalesce(${typeText(sql`o.oprright`)}, 'NONE') || ')'
from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) o.oprnamespace
where o.oid operator(pg_catalog.=) ${oid})`;

const casts = {
  regclass: simple("pg_class", "rel", quoted),
  regproc: simple("pg_proc", "pro", quoted),
  regoper: simple("pg_operator", "opr", (name) => sql`${name}::pg_catalog.text`),
  regconfig: simple("pg_ts_config", "cfg", quoted),
  regdictionary: simple("pg_ts_dict", "dict", quoted),
  regtype: (value) => otherwise(value, typeText),
  regprocedure: (value) => otherwise(value, procedure),
  regoperator: (value) => otherwise(value, operator),
} as const satisfies Record<string, Cast>;

const names = [
  "regclass",
  "regproc",
  "regoper",
  "regconfig",
  "regdictionary",
  "regtype",
  "regprocedure",
  "regoperator",
] as const;

const listOf =
  (cast: Cast): Cast =>
  (value) => {
    const item = sql.identifier(Symbol("item"));
    return sql`(case when (${value}) is not distinct from null then null::pg_catalog.text else array(select ${cast(item)} from pg_catalog.unnest(${value}) ${item})::pg_catalog.text end)`;
  };

/** Codecs whose text depends on the setting. */
const codecs = new Set<object>(names.flatMap((name) => [TYPES[name], LIST_TYPES[name]]));

export function dependsOnSetting(codec: object): boolean {
  return codecs.has(codec);
}

/**
 * Gives the codecs of @dataplan/pg, which all instances of the thread share, a text that goes by the request's setting. Returns the types
 * for which there is no codec that could be given one.
 */
export function keepSchemasInText(): string[] {
  return names.filter((name) => {
    const one: unknown = TYPES[name];
    const list: unknown = LIST_TYPES[name];
    if (!isCodec(one, "castFromPg") || !isCodec(list, "arrayOfCodec")) return true;
    const cast = casts[name];
    Object.assign(one, { castFromPg: cast, listCastFromPg: listOf(cast) });
    Object.assign(list, { castFromPg: listOf(cast) });
    return false;
  });
}

function isCodec(value: unknown, property: string): value is object {
  return typeof value === "object" && value !== null && property in value;
}
