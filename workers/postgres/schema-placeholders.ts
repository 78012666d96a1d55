/** What an instance calls the schemas that it serves, while it is built and in what is built. */
import type { BlueprintSpec } from "../../src/shared/protocol/messages.ts";

/**
 * The served schemas' names, in order: their logical names, in pooled and dedicated instances alike. Whatever a plugin looks for by
 * a schema's name it finds by the one that the preset's author knows, and nothing built holds a name that is one tenant's.
 * `StatementNames` puts the schemas that are there into statements that name one so.
 */
export function builtNames({ schemas }: Pick<BlueprintSpec, "schemas">): readonly string[] {
  return schemas.map(({ logical }) => logical);
}

/** Behind the name of a schema that is not served, where that is a served one's logical name: two must not be called alike. */
export const notServed = " (shared)";

/** What a build calls the schema of this name in PostgreSQL. */
export function calledName(physical: string, schemas: BlueprintSpec["schemas"]): string {
  const served = schemas.find((schema) => schema.physical === physical);
  if (served !== undefined) return served.logical;
  return schemas.some(({ logical }) => logical === physical) ? `${physical}${notServed}` : physical;
}

/** The name in PostgreSQL of a schema that is not served, by what a build calls it. */
export function ownName(called: string, logical: readonly string[]): string {
  const name = called.endsWith(notServed) ? called.slice(0, -notServed.length) : called;
  return name !== called && logical.includes(name) ? name : called;
}
