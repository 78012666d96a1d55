/** Bodies of functions in SQL or PL/pgSQL, which PostgreSQL keeps as they were written: what in one could reach beyond its tenant. */

/** White space and comments, and all that stands between two comments: nothing can hide in there. */
const gap = String.raw`(?:\s|--[^\n\r]*[\n\r]|/\*.*\*/)*`;

/** Behind what a statement can begin, in either language: not an UPDATE's SET, the DO of an upsert, or a GRANT of EXECUTE. */
const begins = String.raw`(?:^|;|>>|\m(?:begin|then|else|loop)\M)`;

/** A role's name for a setting may be quoted; what is spelt with escapes counts by itself. */
const identity = String.raw`(?:(?:session|local)\M${gap})*(?:"?(?:role|session_authorization)|authorization)\M`;

/** As it stands in a string of SQL. */
const quote = "''";

/** Whether or not they are installed. */
const extensions = String.raw`dblink\w*|crosstab\w*|connectby|xpath_table`;

/** `[sS][eE][tT]` for `set`: a pattern that is told to ignore case takes three times as long. */
const anyCase = (text: string): string =>
  text.replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);

interface Phrase {
  /** What it is called in a finding; null: whatever matched. */
  readonly says: string | null;
  /** What every text has that matches, and few others: 2 µs for a body of 120 characters, where all of the patterns take 100. */
  readonly hint: string;
  readonly pattern: string;
}

/** No keyword can be split by a comment or spelt with an escape, in either language. */
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
    pattern: String.raw`\m(?:${names.join("|")}|pg_settings|${extensions})\M`,
  },
];

/** By PostgreSQL's rules for names, not by those of a database's language, where I and i may be two letters. */
const inC = (column: string): string => `(${column} collate "C")`;

/** SQL: whether the text in `column` says anything of this, or names one of `names`. */
export function bodyReaches(column: string, names: readonly string[]): string {
  const said = inC(column);
  const each = phrases(names).map(({ hint, pattern }) => `${said} ~ '${hint}' and ${said} ~* '${pattern}'`);
  return `(${each.join(" or ")})`;
}

/** SQL, rows of a text each: by what. */
export function bodyReasons(column: string, names: readonly string[]): string {
  const said = inC(column);
  const each = phrases(names).map(({ says, pattern }) =>
    says === null
      ? `select pg_catalog.lower(word[1]) from pg_catalog.regexp_matches(${said}, '(${pattern})', 'gi') word`
      : `select '${says}' as reason where ${said} ~* '${pattern}'`,
  );
  return each.join(" union all ");
}
