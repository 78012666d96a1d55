/** Values that may be written in more than one form. */
import { z } from "zod";
import { flatIssues } from "../kernel/fault.ts";

/**
 * A schema for a value of several forms. `form` looks at a value and says which one was meant, so that the faults
 * are that form's: a zod union can only say that none of them fits.
 */
export function oneForm<Output, Input>(form: (value: unknown) => z.ZodType<Output, Input>) {
  return z.custom<Input>().transform((value, context): Output => {
    const result = form(value).safeParse(value);
    if (result.success) return result.data;
    for (const { path, message } of flatIssues(result.error.issues)) {
      context.addIssue({ code: "custom", path, message });
    }
    return z.NEVER;
  });
}

/** Those of `values` that occur more than once, each once. */
export function duplicates(values: readonly string[]): string[] {
  return [...new Set(values.filter((value, index) => values.indexOf(value) !== index))];
}
