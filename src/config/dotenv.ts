/** Reads `.env` files. Variables set in the real environment take precedence. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { codeOf, messageOf } from "../shared/kernel/errors.ts";
import type { Fault } from "../validation/config-error.ts";
import type { Environment } from "./environment.ts";

export interface DotEnv {
  /** Null if there is none. */
  readonly file: string | null;
  readonly values: Environment;
  readonly faults: readonly Fault[];
}

/**
 * The variables set by `.env` in `directory`. A file that cannot be read or parsed is a fault; no message
 * quotes it, because it holds secrets.
 */
export async function readDotEnv(directory: string): Promise<DotEnv> {
  const file = join(directory, ".env");
  const faulty = (message: string): DotEnv => ({ file, values: {}, faults: [{ path: file, message }] });
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return { file: null, values: {}, faults: [] };
    // A directory of that name may be a Python environment.
    if (code === "EISDIR") return { file: null, values: {}, faults: [] };
    return faulty(`cannot be read: ${messageOf(error)}`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return faulty("is not UTF-8: save it as UTF-8 (PowerShell's > writes UTF-16)");
  }
  const at = malformedAt(text);
  if (at !== null) return faulty(`line ${text.slice(0, at).split("\n").length} is not NAME=value`);
  const values = parseEnv(text);
  if (values["NODE_OPTIONS"] !== undefined) {
    return faulty("sets NODE_OPTIONS, which Node.js has already read: set it in the real environment");
  }
  return { file, values, faults: [] };
}

const namePattern = /^(?:export\s+)?[\w.-]+$/;

/**
 * The offset of the first line that `parseEnv` would silently skip; null if there is none. Quoted values may
 * span lines.
 */
function malformedAt(text: string): number | null {
  for (let at = 0; at < text.length; ) {
    const end = endOfLine(text, at);
    const line = text.slice(at, end);
    const start = at;
    at = end + 1;
    if (line.includes("\0")) return start;
    if (line.trim() === "" || line.trimStart().startsWith("#")) continue;
    const equals = line.indexOf("=");
    if (equals === -1 || !namePattern.test(line.slice(0, equals).trim())) return start;
    const value = line.slice(equals + 1).trimStart();
    const [quote = ""] = value;
    if (!quotes.has(quote)) continue;
    const close = text.indexOf(quote, end - value.length + 1);
    if (close === -1) return start;
    at = endOfLine(text, close) + 1;
  }
  return null;
}

const quotes = new Set(["'", '"', "`"]);

function endOfLine(text: string, from: number): number {
  const end = text.indexOf("\n", from);
  return end === -1 ? text.length : end;
}
