/** Statements that a plugin may not send: those that reach beyond the transaction, or change the tenant's settings. */
import { HostError } from "../../src/shared/kernel/errors.ts";

/**
 * Matches a statement's first words. The extended protocol takes one statement per text, so nothing can follow; PostgreSQL
 * refuses `commit` and the like inside functions and `do` blocks of a transaction.
 */
const forbidden = new RegExp(
  `^(?:${[
    // What follows the end of the transaction would run without role and search path.
    "begin|start transaction|commit|end|abort|rollback(?! (?:work |transaction )?to )|prepare transaction",
    // These decide which tenant the transaction acts for.
    'set local (?:u&|"?(?:role|search_path|session authorization|session_authorization|schema))',
    // These outlive the transaction, on a connection that serves other tenants next.
    "set(?! (?:local|constraints|transaction) )|reset|discard|deallocate|prepare|listen|unlisten|load",
    // A pipeline cannot switch to the protocol's copy mode.
    "copy",
  ].join("|")})(?![a-z0-9_$])`,
);

/** PostGraphile's statements begin with one of these and need no closer look. */
const ordinary = /^\s*(?:select|insert|update|delete|with)\b/i;

/** Throws `INTERNAL` if `text` is a statement that must not be sent inside a request's transaction. */
export function assertHarmless(text: string): void {
  if (text.includes("\0")) throw new HostError("INTERNAL", "a statement contains a NUL character");
  if (ordinary.test(text)) return;
  const words = firstWords(text);
  const match = forbidden.exec(words);
  if (match !== null) {
    throw new HostError("INTERNAL", `the statement "${match[0].trim()}" is not allowed inside withPgClient`);
  }
}

/** The beginning of `text` in lower case, without what PostgreSQL skips: blanks, nested comments and empty statements. */
function firstWords(text: string): string {
  let words = "";
  for (let at = 0; at < text.length && words.length < 40; ) {
    const next = skipped(text, at);
    if (next > at) {
      if (words !== "") words += " ";
      at = next;
    } else {
      words += text.charAt(at).toLowerCase();
      at += 1;
    }
  }
  return `${words} `;
}

/** The end of the blanks, comments and semicolons that begin at `from`. */
function skipped(text: string, from: number): number {
  let at = from;
  for (;;) {
    const end = /[\s;]/.test(text.charAt(at)) ? at + 1 : afterComment(text, at);
    if (end === at) return at;
    at = end;
  }
}

/**
 * The end of the comment that begins at `from`, or `from` if none does. Those in `/*` nest; a carriage return alone ends a line
 * as well.
 */
export function afterComment(text: string, from: number): number {
  const two = text.slice(from, from + 2);
  if (two === "--") {
    const length = text.slice(from).search(/[\r\n]/);
    return length === -1 ? text.length : from + length;
  }
  if (two !== "/*") return from;
  let depth = 0;
  const mark = /\/\*|\*\//g;
  mark.lastIndex = from;
  for (let match = mark.exec(text); match !== null; match = mark.exec(text)) {
    depth += match[0] === "/*" ? 1 : -1;
    if (depth === 0) return mark.lastIndex;
  }
  return text.length;
}
