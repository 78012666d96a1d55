/** What an instance is built from. */
import type { InstanceKey, TenantId } from "../kernel/ids.ts";

/** A served schema: its name in the API, and the tenant's schema in PostgreSQL. */
export interface SchemaBinding {
  readonly logical: string;
  readonly physical: string;
}

/** The names in PostgreSQL of the schemas that are served, in order. */
export const physicalNames = (schemas: readonly SchemaBinding[]): string[] =>
  schemas.map(({ physical }) => physical);

/** Every schema that a tenant's search path names: the served ones in order, then the shared ones. */
export function pathSchemas({
  schemas,
  sharedSchemas,
}: {
  readonly schemas: readonly SchemaBinding[];
  readonly sharedSchemas: readonly string[];
}): string[] {
  return [...physicalNames(schemas), ...sharedSchemas];
}

/**
 * An object that bare names do not find, and that seems to be no part of the API: a pooled instance leaves it out, once its build has proven
 * that nothing of the API goes with it.
 */
export interface LeftOutObject {
  readonly kind: "relation" | "type" | "function";
  readonly oid: string;
  /** In PostgreSQL. */
  readonly schema: string;
  readonly name: string;
  /** Why no pooled instance can have it, and what to do about that. */
  readonly reason: string;
}

/** All that a thread needs to build an instance. A pooled one is built on the schemas of the tenant that asked first. */
export interface BlueprintSpec {
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  /**
   * What its tenants have in common. With `core` the build is not shown the rest of the catalogue, and is refused (`BUILD_READS_MORE`) if the
   * preset has plugins that may ask for it.
   */
  readonly shape: "full" | "core";
  readonly tenant: TenantId;
  readonly database: string;
  readonly schemas: readonly SchemaBinding[];
  readonly sharedSchemas: readonly string[];
  /** A named set of settings that selects a variant of a build. */
  readonly api: string | null;
  readonly mode: string | null;
  readonly settings: Readonly<Record<string, string | boolean>>;
  /** Number of tables whose rows are part of the shape (`@enum`); a pooled build that reads more is refused. */
  readonly enumTables: number;
  /** Why no build can succeed because of the rows of an enum table; else null. */
  readonly enumFault: string | null;
  /** Empty in a dedicated instance. */
  readonly leftOut: readonly LeftOutObject[];
  /** The roles of the tenant, in the order in which they are asked for rows that the connecting role may not read. */
  readonly readers: readonly string[];
}
