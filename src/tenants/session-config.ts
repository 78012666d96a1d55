/** The part of a tenant's record about the SQL function that validates its session tokens. */
import { z } from "zod";
import type { SchemaBinding } from "../shared/model/blueprint-spec.ts";
import { identifier, roleName, schemaName, text } from "../validation/identifiers.ts";
import { keyed } from "../validation/one-of.ts";

export interface SessionRules {
  /** The schema's name in PostgreSQL. */
  readonly schema: string;
  readonly function: string;
  /** The role that it is called as; null: the tenant's anonymous role. */
  readonly role: string | null;
  /** Whether it is in one of the tenant's served schemas; other schemas may be shared with other tenants. */
  readonly own: boolean;
}

const functionName = text.transform((value, context): { schema: string; name: string } => {
  const [schema = "", name = "", ...more] = value.split(".");
  if (identifier.safeParse(name).success && more.length === 0) {
    const { success, error } = schemaName.safeParse(schema);
    if (success) return { schema, name };
    for (const { message } of error.issues.slice(0, 1)) context.addIssue(message);
    return z.NEVER;
  }
  context.addIssue('must be a schema and a function, such as "app_private.authenticate"');
  return z.NEVER;
});

export const sessionRecord = keyed({ function: functionName, role: roleName.nullish() });

/** The function's schema is taken as a logical name if there is one, else as PostgreSQL's own. */
export function sessionRules(
  record: z.output<typeof sessionRecord>,
  schemas: readonly SchemaBinding[],
): SessionRules {
  const { schema, name } = record.function;
  const bound = schemas.find(({ logical }) => logical === schema)?.physical ?? schema;
  return {
    schema: bound,
    function: name,
    role: record.role ?? null,
    own: schemas.some(({ physical }) => physical === bound),
  };
}
