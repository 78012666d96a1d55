/**
 * Text from outside as it may be shown: cut before any pattern sees it, without what can be told for a credential by its form, without
 * long quoted values. Patterns here take a time that grows with the text and no faster; test/house/patterns.test.ts sees to it.
 */

/** Characters of one text, with what is said of the rest: a log is read, and a client's value may have megabytes. */
export const excerptCharacters = 4_096;
/** PostgreSQL quotes identifiers, of at most 63 bytes, and values. */
const quotedCharacters = 64;

/** Any word may be a URL: an unencoded password may have any character but a blank. */
const words = /\S+/g;
/** The values of bearer and basic credentials, of what is called a password, and whatever looks like a JWT or begins as one. */
const credentials: readonly (readonly [RegExp, string])[] = [
  [/\b(bearer|basic)\s+[\w.~+/=-]+/gi, "$1 ***"],
  [/(^|[^A-Za-z0-9])eyJ[\w.-]*/g, "$1***"],
  [/(password|passwd|pwd|token|secret)=[^\s&]*/gi, "$1=***"],
];

/** `text`, cut, without credentials and without quoted values that are longer than a name. What it gives may be given to it again. */
export function excerpt(text: string, most = excerptCharacters): string {
  const { kept, note } = cut(text, most);
  return shortQuotes(hideCredentials(kept, note !== ""), note !== "") + note;
}

/** `text`, cut, without credentials: for what the reader wrote, who wants to see what it was. */
export function withoutSecrets(text: string, most = excerptCharacters): string {
  const { kept, note } = cut(text, most);
  return hideCredentials(kept, note !== "") + note;
}

/** An error's stack: its first part repeats the message, the frames behind it are worth more. */
export function excerptOfStack(stack: string, message: string, most = excerptCharacters): string {
  // Behind the message, which may itself look like frames.
  const frames = stack.indexOf("\n    at ", message.length);
  if (frames === -1) return excerpt(stack, most);
  const head = most / 4;
  return excerpt(stack.slice(0, frames), head) + excerpt(stack.slice(frames), most - head);
}

function cut(text: string, most: number): { readonly kept: string; readonly note: string } {
  if (text.length <= most) return { kept: text, note: "" };
  const note = ` … (${text.length} characters)`;
  const end = most - note.length;
  // Not between the halves of a character.
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
 * Up to the last @: too much hidden is better than too little. One slash is enough: where a URL was taken for a path, that is what is left
 * of two. The @ of a word that was cut may be in the part that is gone.
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
  // A value that has quotes itself: where it begins and ends can only be where they all do.
  if (isCut) return `${parts[0]}"${shortened(parts.slice(1).join('"'), true)}`;
  if (last === 1) return text;
  return `${parts[0]}"${shortened(parts.slice(1, -1).join('"'), false)}"${parts[last]}`;
}

/** Whether quotes stand by turns where a quoted text may begin and end. The last one may be open where the text was cut. */
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

/** An `open` one went on behind the cut, nobody knows how far. */
function shortened(quoted: string, open: boolean): string {
  if (quoted.length <= quotedCharacters) return quoted;
  return open ? "…" : `… ${quoted.length} characters …`;
}
