/** The part of a tenant's record about the SQL function that knows its tokens. */
import { z } from "zod";
import type { SchemaBinding } from "../shared/protocol/messages.ts";
import { identifier, roleName, schemaName, text } from "../validation/identifiers.ts";
import { keyed } from "../validation/one-of.ts";

export interface SessionRules {
  /** In PostgreSQL. */
  readonly schema: string;
  readonly function: string;
  /** As whom it is called; null: as the tenant's anonymous role. */
  readonly role: string | null;
  /** Whether it stands in one of the tenant's served schemas; any other schema may be other tenants' too. */
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

/** The function's schema is a logical one where there is one of that name, and PostgreSQL's own name for it otherwise. */
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
