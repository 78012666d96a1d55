/**
 * Makes text from outside fit to show: cut before any pattern runs on it, without recognisable credentials
 * and without long quoted values. The patterns here run in linear time; test/house/patterns.test.ts checks
 * that.
 */

/**
 * Maximum characters of one text, including the note on its full length: people read the log, and a client's
 * value may have megabytes.
 */
export const excerptCharacters = 4_096;
/** PostgreSQL quotes identifiers, which have at most 63 bytes, and values. */
const quotedCharacters = 64;

/** Any word may be a URL: an unencoded password may contain any character but a blank. */
const words = /\S+/g;
/** Values of bearer and basic credentials, of parameters named like passwords, and whatever starts like a JWT. */
const credentials: readonly (readonly [RegExp, string])[] = [
  [/\b(bearer|basic)\s+[\w.~+/=-]+/gi, "$1 ***"],
  [/(^|[^A-Za-z0-9])eyJ[\w.-]*/g, "$1***"],
  [/(password|passwd|pwd|token|secret)=[^\s&]*/gi, "$1=***"],
];

/** `text`, cut, without credentials and without quoted values longer than a name. Idempotent. */
export function excerpt(text: string, most = excerptCharacters): string {
  const { kept, note } = cut(text, most);
  return shortQuotes(hideCredentials(kept, note !== ""), note !== "") + note;
}

/** `text`, cut, without credentials: for readers who wrote the text themselves and want to see it. */
export function withoutSecrets(text: string, most = excerptCharacters): string {
  const { kept, note } = cut(text, most);
  return hideCredentials(kept, note !== "") + note;
}

/**
 * An excerpt of an error's stack: its first part repeats the message, so the frames after it get most of the
 * space.
 */
export function excerptOfStack(stack: string, message: string, most = excerptCharacters): string {
  // Search after the message, which may itself look like frames.
  const frames = stack.indexOf("\n    at ", message.length);
  if (frames === -1) return excerpt(stack, most);
  const head = most / 4;
  return excerpt(stack.slice(0, frames), head) + excerpt(stack.slice(frames), most - head);
}

function cut(text: string, most: number): { readonly kept: string; readonly note: string } {
  if (text.length <= most) return { kept: text, note: "" };
  const note = ` … (${text.length} characters)`;
  const end = most - note.length;
  // Does not cut a surrogate pair.
  const half = /[\ud800-\udbff]/.test(text.charAt(end - 1));
  return { kept: text.slice(0, half ? end - 1 : end), note };
}

function hideCredentials(text: string, isCut: boolean): string {
  const plain = text.replace(words, (word, at: number) =>
    withoutUser(word, isCut && at + word.length === text.length),
  );
  return credentials.reduce((clean, [pattern, replacement]) => clean.replace(pattern, replacement), plain);
}

/**
 * Hides everything up to the last @: too much is better than too little. One slash is enough, because a URL
 * that was normalised as a path has only one left. In a word that was cut, the @ may be in the missing part,
 * so all of it is hidden.
 */
function withoutUser(word: string, isCut: boolean): string {
  const scheme = word.indexOf(":/");
  const end = isCut ? word.length : word.lastIndexOf("@") + 1;
  return scheme === -1 || end <= scheme ? word : `${word.slice(0, scheme)}://***@${word.slice(end)}`;
}

const beforeQuoted = " \t\r\n([{,:;=.<>|";
const behindQuoted = " \t\r\n)]},:;=.<>|?!";

function shortQuotes(text: string, isCut: boolean): string {
  const parts = text.split('"');
  const last = parts.length - 1;
  if (last === 0) return text;
  if (isPaired(parts, isCut)) {
    return parts.map((part, at) => (at % 2 === 0 ? part : shortened(part, at === last))).join('"');
  }
  // The value contains quotes itself, so the outermost quotes are taken as its bounds.
  if (isCut) return `${parts[0]}"${shortened(parts.slice(1).join('"'), true)}`;
  if (last === 1) return text;
  return `${parts[0]}"${shortened(parts.slice(1, -1).join('"'), false)}"${parts[last]}`;
}

/**
 * Whether the quotes alternate at places where a quoted text may begin and end. The last one may be open if
 * the text was cut.
 */
function isPaired(parts: readonly string[], isCut: boolean): boolean {
  const last = parts.length - 1;
  if (last % 2 === 1 && !isCut) return false;
  return parts.every((part, at) => {
    if (at % 2 === 1) return true;
    const opens = at === last || (part === "" ? at === 0 : beforeQuoted.includes(part.slice(-1)));
    const closes = at === 0 || (part === "" ? at === last : behindQuoted.includes(part.charAt(0)));
    return opens && closes;
  });
}

/** If `open`, the value continued beyond the cut and its length is unknown. */
function shortened(quoted: string, open: boolean): string {
  if (quoted.length <= quotedCharacters) return quoted;
  return open ? "…" : `… ${quoted.length} characters …`;
}
