/** The names that an instance uses for its served schemas, while it is built and in its result. */
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";

/**
 * The served schemas' names, in order: their logical names, in pooled and dedicated instances alike. Plugins can look schemas up
 * by the names that the preset's author knows, and nothing built contains the name of one tenant's schema. `StatementNames`
 * substitutes the physical schemas in statements that use these names.
 */
export function builtNames({ schemas }: Pick<BlueprintSpec, "schemas">): readonly string[] {
  return schemas.map(({ logical }) => logical);
}

/** The suffix for a schema that is not served but has a served one's logical name, so that no two have the same name. */
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
