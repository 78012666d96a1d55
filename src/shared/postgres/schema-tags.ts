/** Smart tags as SQL reads them: those that name a served schema as the database does, and those that leave something out of the API. */

/** Tags whose argument is prose or a name in the API, and so never names a schema. */
const spoken = "(?:name|deprecated|[a-z0-9_]*description)";

const tagName = "[a-zA-Z][a-zA-Z0-9_]*";

/**
 * SQL: the smart tag lines of the comment `description` as pg-introspection takes them: the leading lines, up
 * to the first that is no tag.
 */
const tagLines = (description: string): string =>
  `pg_catalog.substring(${description}, '^\\n?((?:[ \\t]*@${tagName}(?:[ \\t\\r][^\\n]*)?(?:\\n|$))+)')`;

/**
 * SQL, for use after `scopeCtes`: `own_name(ord, pattern)`, the served schemas whose physical name is not
 * also a logical one, with a pattern that finds a tag naming it; its only group is the whole line. It matches
 * whole words in front of a dot, in any case. A physical name equal to any logical name is taken as the
 * logical one.
 */
export const ownNameCte = `\
own_name(ord, pattern) as materialized (
  select ord,
    '(?in)^([ \\t]*@(?!${spoken}[[:space:]])${tagName}[ \\t](?:.*(?<![[:alnum:]_$.]))?"?'
      || pg_catalog.regexp_replace(physical, '([^[:alnum:]_])', '\\\\\\1', 'g') || '"?[ \\t]*\\..*)$'
  from pg_catalog.unnest($1::text[]) with ordinality as binding(physical, ord)
  where physical <> all ($2::text[])
)`;

/**
 * SQL: the tag in the comment `description` that names the schema of the row `own` of `own_name`; null if
 * there is none.
 */
export const namingTag = (description: string, own: string): string =>
  `case when ${description} like '%@%' then pg_catalog.btrim(pg_catalog.substring(${tagLines(description)}, ${own}.pattern), E' \\t\\r') end`;

/** Words of `@omit` and of `@behavior` that can take a whole object out of the API; the others take out a part. */
const omitted = "(?:[*]|read|execute|:[A-Z]*[RX])";
const withdrawn = "(?:[*]|select|(?:query|mutation|type)Field)";

/**
 * SQL: whether smart tags of the comment `description` ask that its object be left out of the API. Whether they have their way is up to the
 * preset, and only a build can tell: `@omit` means nothing to one without PgV4SmartTagsPlugin.
 */
export const asksLeftOut = (description: string): string =>
  `coalesce(${tagLines(description)} ~ '(?n)^[ \\t]*@(?:omit(?:[ \\t\\r]*$|[ \\t](?:.*[ \\t,])?${omitted})|behavior[ \\t](?:.*[ \\t])?-${withdrawn})', false)`;
