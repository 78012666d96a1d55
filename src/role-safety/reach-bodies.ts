/**
 * Searches function bodies in SQL or PL/pgSQL, which PostgreSQL stores as written, for anything that could
 * reach beyond the tenant.
 */

/** White space and comments, and everything between two comments, so that nothing can hide there. */
const gap = String.raw`(?:\s|--[^\n\r]*[\n\r]|/\*.*\*/)*`;

/**
 * What can precede a statement in either language. Excludes the SET of an UPDATE, the DO of an upsert, and
 * GRANT EXECUTE.
 */
const begins = String.raw`(?:^|;|>>|\m(?:begin|then|else|loop)\M)`;

/** In SET, a role setting's name may be quoted; names spelled with escapes are found separately. */
const identity = String.raw`(?:(?:session|local)\M${gap})*(?:"?(?:role|session_authorization)|authorization)\M`;

/** A single quote inside an SQL string. */
const quote = "''";

/** Matched whether or not they are installed. */
const extensions = String.raw`dblink\w*|crosstab\w*|connectby|xpath_table`;

/** Turns `set` into `[sS][eE][tT]`: a case-insensitive pattern takes three times as long. */
const anyCase = (text: string): string =>
  text.replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);

interface Phrase {
  /** How a finding names it; null: the matched word itself. */
  readonly says: string | null;
  /** A cheap necessary condition: 2 µs for a body of 120 characters, while all full patterns take 100. */
  readonly hint: string;
  readonly pattern: string;
}

/** In both languages, keywords can neither be split by a comment nor spelled with an escape. */
const phrases = (names: readonly string[]): readonly Phrase[] => [
  {
    says: "execute",
    hint: String.raw`\m${anyCase("execute")}\M`,
    pattern: String.raw`(?:${begins}|\m(?:query|for|in)\M)${gap}\mexecute\M`,
  },
  {
    says: "set role",
    hint: String.raw`(?:${anyCase("role")}|${anyCase("authorization")})\M`,
    pattern: String.raw`${begins}${gap}\m(?:set|reset)\M${gap}${identity}`,
  },
  {
    says: "do",
    hint: String.raw`\m${anyCase("do")}\M`,
    pattern: String.raw`${begins}${gap}\mdo\M${gap}(?:language\M|\$|(?:[en]|u&)?${quote})`,
  },
  {
    says: "a function that it makes or alters",
    hint: String.raw`\m(?:${anyCase("create")}|${anyCase("alter")})\M`,
    pattern: String.raw`\m(?:create|alter)\M${gap}(?:or\M${gap}replace\M${gap})?(?:function|procedure|routine)\M`,
  },
  { says: "an escaped name", hint: String.raw`\m[uU]&"`, pattern: String.raw`\mu&"` },
  {
    says: null,
    hint: String.raw`${anyCase("_to_xml")}|\m(?:${anyCase("set_|ts_|pg_|lo_|loread|lowrite|dblink|crosstab|connectby|xpath_")})`,
    pattern: String.raw`\m(?:${names.join("|")}|pg_settings|pg_prepared_statements|${extensions})\M`,
  },
];

/** Compares by PostgreSQL's rules for names, not by a locale in which I and i may be different letters. */
const inC = (column: string): string => `(${column} collate "C")`;

/** SQL: whether the text in `column` contains any of these phrases, or names one of `names`. */
export function bodyReaches(column: string, names: readonly string[]): string {
  const said = inC(column);
  const each = phrases(names).map(({ hint, pattern }) => `${said} ~ '${hint}' and ${said} ~* '${pattern}'`);
  return `(${each.join(" or ")})`;
}

/** SQL: one row of text per phrase that was found. */
export function bodyReasons(column: string, names: readonly string[]): string {
  const said = inC(column);
  const each = phrases(names).map(({ says, pattern }) =>
    says === null
      ? `select pg_catalog.lower(word[1]) from pg_catalog.regexp_matches(${said}, '(${pattern})', 'gi') word`
      : `select '${says}' as reason where ${said} ~* '${pattern}'`,
  );
  return each.join(" union all ");
}
