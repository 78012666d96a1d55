/** Locates syntax errors in a file by line and column, without quoting its text, which may hold secrets. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { messageOf } from "../shared/kernel/errors.ts";

/**
 * `:3:14 is not valid JSON: a comma is missing`, to be appended to the file's name. JSON.parse reports the
 * position of some errors only.
 */
export async function jsonFault(text: string): Promise<string> {
  const { default: jsonc } = await import("jsonc-parser");
  let found: { readonly place: string; readonly what: string } | undefined;
  const strict = { disallowComments: true, allowTrailingComma: false, allowEmptyContent: false };
  const onError = (code: number, _offset: number, _length: number, line: number, character: number): void => {
    found ??= {
      place: `:${line + 1}:${character + 1}`,
      what: jsonWords[jsonc.printParseErrorCode(code)] ?? "",
    };
  };
  try {
    jsonc.visit(text, { onError }, strict);
  } catch (error) {
    // The parser is recursive and can overflow on deeply nested lists; JSON.parse, which rejected the text,
    // is not.
    if (!(error instanceof RangeError)) throw error;
  }
  if (found === undefined) return " is not valid JSON";
  return `${found.place} is not valid JSON${found.what === "" ? "" : `: ${found.what}`}`;
}

const jsonWords: Readonly<Record<string, string>> = {
  InvalidSymbol: "invalid value (names and strings need double quotes)",
  InvalidNumberFormat: "invalid number",
  PropertyNameExpected: "a name in double quotes is missing, or there is an extra comma",
  ValueExpected: "a value is missing, or there is an extra comma",
  ColonExpected: "a colon is missing",
  CommaExpected: "a comma is missing",
  CloseBraceExpected: "a closing brace is missing",
  CloseBracketExpected: "a closing bracket is missing",
  EndOfFileExpected: "unexpected content after the end",
  InvalidCommentToken: "comments are not allowed in JSON",
  UnexpectedEndOfComment: "comments are not allowed in JSON",
  UnexpectedEndOfString: "unterminated string",
  UnexpectedEndOfNumber: "incomplete number",
  InvalidUnicode: "the escape is not a valid character",
  InvalidEscapeCharacter: "unknown escape sequence",
  InvalidCharacter: "the character must be escaped",
};

/**
 * `FILE:3:14 cannot be loaded: Expected ','` for an error thrown by importing the file; `FILE` is the file at
 * fault, if that is known.
 */
export async function moduleFault(file: string, error: unknown): Promise<string> {
  const place = await placeOf(file, error);
  return `${place ?? file} cannot be loaded: ${wordsOf(error)}`;
}

/** A token quoted by the parser, or its further lines, may be part of a secret that contains a quote. */
function wordsOf(error: unknown): string {
  const message = messageOf(error);
  if (!(error instanceof SyntaxError)) return message;
  const [first = ""] = message.split("\n");
  if (first.startsWith("Unexpected identifier")) return "Unexpected identifier";
  const token = first.indexOf(", got ");
  return token === -1 ? first : first.slice(0, token);
}

async function placeOf(file: string, error: unknown): Promise<string | undefined> {
  if (!(error instanceof Error) || error.stack === undefined) return undefined;
  const shown = shownPlace(error.stack);
  if (shown !== undefined) return `${shown.file}${shown.position}`;
  // V8 reports the position only when it checks a file.
  if (error instanceof SyntaxError) return checkedPlace(file);
  const url = pathToFileURL(file).href;
  const frame = error.stack.split("\n").find((line) => line.includes(`${url}:`));
  const place = frame?.slice(frame.indexOf(`${url}:`) + url.length).match(/^:\d+:\d+/)?.[0];
  return place === undefined ? undefined : `${file}${place}`;
}

/**
 * Parses the position that Node prints before an error: a file and a line, the source, and a caret below the
 * column.
 */
function shownPlace(text: string): { readonly file: string; readonly position: string } | undefined {
  const [head = "", ...lines] = text.split("\n");
  const [, where = "", line] = /^(.+):(\d+)$/.exec(head) ?? [];
  if (line === undefined) return undefined;
  const caret = lines.find((each) => /^\s*\^+\s*$/.test(each));
  const column = caret === undefined ? "" : `:${caret.indexOf("^") + 1}`;
  return { file: where.startsWith("file:") ? fileURLToPath(where) : where, position: `:${line}${column}` };
}

const checkTimeoutMs = 10_000;
const strip =
  "import { stripTypeScriptTypes } from 'node:module'; import { readFileSync } from 'node:fs';" +
  "process.stdout.write(stripTypeScriptTypes(readFileSync(process.argv[1], 'utf8')));";

/**
 * The position that `node --check` reports for the file, with types stripped; undefined if it finds nothing,
 * as for an error in an imported module.
 */
async function checkedPlace(file: string): Promise<string | undefined> {
  const options = { env: {}, timeout: checkTimeoutMs };
  try {
    const typed = /^\.[mc]?ts$/.test(extname(file));
    const stripped = typed
      ? promisify(execFile)(
          process.execPath,
          ["--no-warnings", "--input-type=module", "-e", strip, file],
          options,
        )
      : undefined;
    const source = stripped === undefined ? await readFile(file, "utf8") : (await stripped).stdout;
    const checking = promisify(execFile)(process.execPath, ["--check", "--input-type=module", "-"], options);
    checking.child.stdin?.end(source);
    await checking;
    return undefined;
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
    const place = shownPlace(said);
    return place === undefined ? undefined : `${file}${place.position}`;
  }
}
