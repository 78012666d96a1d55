/** Values that may be written in more than one form. */
import { z } from "zod";
import { didYouMean } from "./closest-name.ts";
import { flatIssues } from "./config-error.ts";

/** The forms that `oneForm` accepts, which zod itself does not know; used for the JSON schema. */
export const formsOf = new WeakMap<object, readonly z.ZodType[]>();

/** An object with exactly these keys; the fault for an unknown key suggests the closest one. */
export function keyed<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? issue.keys.map((key) => `unknown key${didYouMean(key, known)}`).join("\n")
        : undefined,
  });
}

/**
 * A schema for a value of several forms. `form` looks at a value and returns the schema of the form that was
 * meant, so that the faults are that form's: a zod union can only say that none of them fits. `samples` are
 * values of each form.
 */
export function oneForm<Output, Input>(
  form: (value: unknown) => z.ZodType<Output, Input>,
  samples: readonly unknown[],
) {
  const written = z.custom<Input>();
  formsOf.set(written, samples.map(form));
  return written.transform((value, context): Output => {
    const result = form(value).safeParse(value);
    if (result.success) return result.data;
    for (const { path, message } of flatIssues(result.error.issues)) {
      context.addIssue({ code: "custom", path, message });
    }
    return z.NEVER;
  });
}

/** The values that occur more than once, each listed once. */
export function duplicates(values: readonly string[]): string[] {
  return [...new Set(values.filter((value, index) => values.indexOf(value) !== index))];
}
