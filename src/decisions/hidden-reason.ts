/** Explains why a name that is not visible unqualified prevents pooling, and how to cure it. Pure. */

/**
 * Parses `table acme.pg_group`, `function acme.f(integer)`, `operator acme.=(a, b)` into kind, schema and
 * name; identifiers are quoted as in SQL.
 */
const written = /^(\w+(?: \w+)?) ("(?:[^"]|"")+"|[^."]+)\.("(?:[^"]|"")+"|[^("]+)/;

const leavingOut = "or leave it out of the API with the smart tag @behavior -*";

/** Null where nothing is hidden. `found` says of each what its bare name finds instead, or null. */
export function hiddenReason(hidden: readonly string[], found: readonly (string | null)[]): string | null {
  const [first, ...more] = hidden;
  if (first === undefined) return null;
  const others = more.length === 0 ? "" : ` (${more.length} more are not visible by their bare names either)`;
  const cure = first.startsWith("operator ") ? "" : `; ${leavingOut}`;
  return `${hiddenText(first, found[0] ?? null)}${cure}${others}`;
}

/** Why no pooled SQL can have the object, and how it can be had all the same. */
export function hiddenText(object: string, finds: string | null): string {
  return `${object} is not visible by its bare name: ${cureOf(object, finds)}`;
}

function cureOf(object: string, finds: string | null): string {
  const [, kind = "", schema = "", name = ""] = written.exec(object) ?? [];
  if (finds === null) return `its schema ${schema} is not on the tenant's path: add it to sharedSchemas`;
  if (kind === "operator") return `calls may resolve to ${finds} instead: rename it`;
  const said = kind === "function" ? `calls may resolve to ${finds} instead` : `it is hidden by ${finds}`;
  return `${said}: rename it, and keep its name in the API with the smart tag ${tagOf(kind, unquoted(name))}`;
}

/** PostGraphile derives one field from a function's name, but several from a table's, each in its own way. */
function tagOf(kind: string, name: string): string {
  const api =
    kind === "function" ? name.replace(/_+(\w)/g, (_, letter: string) => letter.toUpperCase()) : name;
  return `@name ${api}`;
}

const unquoted = (name: string): string =>
  name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
