/** Limits how much a request's variables hold, before anything walks them. */

import { HostError } from "../../src/shared/kernel/errors.ts";
import type { OperationLimits } from "../../src/shared/protocol/messages.ts";
import { refusal } from "./complexity.ts";

type VariableLimits = Pick<OperationLimits, "variables" | "variablesDepth">;

const tooMany = (most: number): string => `The variables hold more than ${most} values.`;
const tooDeep = (most: number): string => `The variables are more than ${most} levels deep.`;

/** Shorter texts are not scanned: parsing them takes too little time to matter. */
const scannedFrom = 32 * 1024;
const isObject = /^\s*\{/;
/** Allowance for the request's other values: its query and its operation's name. */
const otherValues = 16;
/** Allowance for the level of the request object around the variables. */
const otherLevels = 1;

/**
 * Throws `BAD_REQUEST` if the JSON `text` of a request is no object, and `VARIABLES_TOO_LARGE` if it exceeds the limits. Scans
 * instead of parsing, because V8 takes 0.1 s and 50 MB for a megabyte of brackets; a scan takes a few milliseconds. Malformed
 * JSON is left for the parser to refuse.
 */
export function assertFewValuesIn(text: string, { variables, variablesDepth }: VariableLimits): void {
  if (text.length < scannedFrom) return;
  if (!isObject.test(text.slice(0, scannedFrom)))
    throw new HostError("BAD_REQUEST", "The body is not a JSON object.");
  const maxValues = variables + otherValues;
  const maxLevels = variablesDepth + otherLevels;
  let values = 0;
  let levels = 0;
  // Whether the innermost list or object is empty so far.
  let empty = false;
  for (let at = 0; at < text.length; at += 1) {
    switch (text.charCodeAt(at)) {
      case quote:
        at = endOfText(text, at);
        empty = false;
        break;
      case openList:
      case openObject:
        // Counts its first value, or itself if it is empty; each further value is counted by its comma.
        values += 1;
        levels += 1;
        empty = true;
        if (levels > maxLevels) throw new HostError("VARIABLES_TOO_LARGE", tooDeep(variablesDepth));
        break;
      case closeList:
      case closeObject:
        if (empty) values -= 1;
        empty = false;
        levels -= 1;
        break;
      case comma:
        values += 1;
        if (values > maxValues) throw new HostError("VARIABLES_TOO_LARGE", tooMany(variables));
        break;
      case blank:
      case newline:
        break;
      default:
        empty = false;
    }
  }
}

const [quote, comma, blank, newline] = [0x22, 0x2c, 0x20, 0x0a];
const [openList, closeList, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d];
const backslash = 0x5c;

/** The index of the quote that closes the string beginning at `start`, or the end of `text`. */
function endOfText(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let before = at - 1;
    while (text.charCodeAt(before) === backslash) before -= 1;
    // An even number of backslashes escape one another.
    if ((at - before) % 2 === 1) return at;
  }
  return text.length;
}

/**
 * Throws `VARIABLES_TOO_LARGE` if `value`, parsed from JSON, holds more values than `limits.variables`, lists and objects
 * included, or nests deeper than `limits.variablesDepth`. Uses no recursion, and stops as soon as a limit is exceeded: coercing
 * 490,000 integers holds a thread for 3.4 s, and values nested as deep as a megabyte allows overflow the stack of recursive code.
 */
export function assertFewValues(value: unknown, { variables, variablesDepth }: VariableLimits): void {
  let level: readonly unknown[] = [value];
  let count = 0;
  for (let depth = 0; level.length > 0; depth += 1) {
    const next: unknown[] = [];
    for (const each of level) {
      if (typeof each !== "object" || each === null) continue;
      if (depth >= variablesDepth) {
        throw refusal("VARIABLES_TOO_LARGE", tooDeep(variablesDepth));
      }
      const held: readonly unknown[] = Array.isArray(each) ? each : Object.values(each);
      count += held.length;
      if (count > variables) {
        throw refusal("VARIABLES_TOO_LARGE", tooMany(variables));
      }
      for (const one of held) next.push(one);
    }
    level = next;
  }
}
