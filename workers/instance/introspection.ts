/** Scopes PostGraphile's introspection query, so that an instance costs what its tenant's schemas cost, not the whole database. */

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { makeIntrospectionQuery } from "pg-introspection";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { physicalNames, type SchemaBinding } from "../../src/shared/model/blueprint-spec.ts";
import { scopeCtes } from "../../src/shared/postgres/catalogue-scope.ts";
import { namedObjects, namedTag, scopedCtes } from "./introspection-sql.ts";

export interface IntrospectionScope {
  readonly schemas: readonly SchemaBinding[];
  readonly sharedSchemas: readonly string[];
  /** The names that the answer gives to the served schemas, in order; by default their physical names. */
  readonly called?: readonly string[];
}

/** Added to the introspection: a smart tag that names a served schema by its physical name, or null. */
export const namedColumn = "rowhouse_named";
/** Added to the introspection: the names of the objects in each schema; see `StatementNames`. */
export const objectsColumn = "rowhouse_objects";

/** sha256 of each introspection query that `scopedCtes` is a scoped form of → the pg-introspection that has it. */
const knownTexts: ReadonlyMap<string, string> = new Map([
  ["c0ed817b912f78e1ea68c70d89ff4b7f9cb4c02d88112a69ac4109d5b996e4c5", "1.0.0 and 1.0.1"],
]);

/** Whether `text` is pg-introspection's query, in any version: it then must not run unscoped. */
export function isIntrospectionQuery(text: string): boolean {
  return text.includes("'introspection_version'") || text === makeIntrospectionQuery();
}

/**
 * The query that answers as `text` does, row for row and in the same order, without the rows outside `scope`. Throws
 * `BUILD_FAILED` unless `text` is exactly a known one, because another may read data that is not scoped here.
 */
export function scopedIntrospection(
  text: string,
  scope: IntrospectionScope,
): { text: string; values: unknown[] } {
  const digest = createHash("sha256").update(text).digest("hex");
  if (!knownTexts.has(digest)) {
    throw new HostError(
      "BUILD_FAILED",
      `pg-introspection ${installedVersion()} sends an introspection query (sha256 ${digest}) that cannot be scoped; ` +
        `supported versions: ${[...knownTexts.values()].join(", ")}; npm install --save-exact pg-introspection@1.0.1`,
    );
  }
  // The known texts end in one select, which only formats and orders what its common table expressions hold.
  const answer = text
    .slice(text.indexOf("select json_build_object("))
    // Filtered by namespace alone, this would scan all of pg_class. No object of pg_catalog has an oid of users' objects.
    .replace("    from pg_class\n    where ", "    from pg_class\n    where oid < 16384 and ");
  const physical = physicalNames(scope.schemas);
  return {
    text: `with recursive\n${scopeCtes},\n${scopedCtes}\n${answer.trimEnd()},\n${namedTag} as ${namedColumn},\n${namedObjects} as ${objectsColumn}`,
    values: [
      physical,
      scope.schemas.map((schema) => schema.logical),
      [...scope.sharedSchemas],
      scope.called ?? physical,
    ],
  };
}

function installedVersion(): string {
  const manifest: unknown = createRequire(import.meta.url)("pg-introspection/package.json");
  const known = typeof manifest === "object" && manifest !== null && "version" in manifest;
  return known ? String(manifest.version) : "of unknown version";
}
