/** How much the variables of a request hold, found out before anything walks them. */
import type { OperationLimits } from "../src/protocol/messages.ts";
import { refusal } from "./complexity.ts";

/**
 * Throws `VARIABLES_TOO_LARGE` where `value`, which came as JSON, holds more values than `limits.variables`, lists and objects counted as
 * well, or nests deeper than `limits.variablesDepth`. Takes no stack however deep it is, and stops where the limit is passed: coercing
 * 490,000 integers holds a thread for 3.4 s, and what is nested as deep as a megabyte allows overflows the stack of whatever recurses.
 */
export function assertFewValues(
  value: unknown,
  { variables, variablesDepth }: Pick<OperationLimits, "variables" | "variablesDepth">,
): void {
  let level: readonly unknown[] = [value];
  let count = 0;
  for (let depth = 0; level.length > 0; depth += 1) {
    const next: unknown[] = [];
    for (const each of level) {
      if (typeof each !== "object" || each === null) continue;
      if (depth >= variablesDepth) {
        throw refusal("VARIABLES_TOO_LARGE", `The variables are more than ${variablesDepth} levels deep.`);
      }
      const held: readonly unknown[] = Array.isArray(each) ? each : Object.values(each);
      count += held.length;
      if (count > variables) {
        throw refusal("VARIABLES_TOO_LARGE", `The variables hold more than ${variables} values.`);
      }
      for (const one of held) next.push(one);
    }
    level = next;
  }
}
