/** The keys of instances: one hash over everything that affects a built schema. */
import { createHash } from "node:crypto";
import {
  dedicatedKey,
  type InstanceKey,
  pooledKey,
  type ShapeHash,
  type TenantId,
} from "../shared/kernel/ids.ts";
import { pathSchemas, physicalNames, type SchemaBinding } from "../shared/model/blueprint-spec.ts";
import { searchPathText } from "../shared/postgres/search-path.ts";

export interface BlueprintInput {
  readonly shape: ShapeHash;
  /** In order; for a pooled instance only the logical names count. */
  readonly schemas: readonly SchemaBinding[];
  readonly sharedSchemas: readonly string[];
  readonly settings: Readonly<Record<string, string | boolean>>;
  readonly api: string | null;
  readonly mode: string | null;
  readonly database: string;
  /** Changes whenever the preset would build something else. */
  readonly presetVersion: string;
  readonly hostVersion: string;
  /** What a pooled instance leaves out, each as all tenants call it; a dedicated one leaves nothing out. */
  readonly leftOut?: readonly string[];
}

type Json = string | boolean | null | readonly Json[];

/** Arrays keep their order, so that equal input gives equal text; records become sorted entries. */
function parts(input: BlueprintInput): readonly Json[] {
  const settings = Object.entries(input.settings).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    input.shape,
    input.schemas.map((schema) => schema.logical),
    input.sharedSchemas,
    settings,
    input.api,
    input.mode,
    input.database,
    input.presetVersion,
    input.hostVersion,
  ];
}

const sha256 = (value: Json): string => createHash("sha256").update(JSON.stringify(value)).digest("hex");

/** The key `bp:<sha256>` of the instance that all tenants with equal input may share. */
export function blueprintKey(input: BlueprintInput): InstanceKey {
  const { leftOut = [] } = input;
  // The same shape may have nothing to leave out: another schema of the path decides what a bare name finds.
  const without = leftOut.length === 0 ? [] : [leftOut.toSorted()];
  return pooledKey(sha256(["pooled", parts(input), ...without]));
}

/**
 * The key `tn:<tenant>:<sha256>` of a dedicated instance; its SQL contains the physical schemas, so they
 * count too.
 */
export function tenantKey(tenant: TenantId, input: BlueprintInput): InstanceKey {
  const searchPath = searchPathText(pathSchemas(input));
  return dedicatedKey(tenant, sha256(["dedicated", parts(input), physicalNames(input.schemas), searchPath]));
}
