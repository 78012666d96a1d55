/** What a cell is told to build where there is no front that decides it: a blueprint of nothing but its schemas. */
import { dedicatedKey, pooledKey, tenantId } from "../src/shared/kernel/ids.ts";
import type { BlueprintSpec } from "../src/shared/model/blueprint-spec.ts";

/** The spec of an instance on `schemas`, logical → physical; `id` makes its key unique. */
export function specOf(
  kind: "pooled" | "dedicated",
  schemas: Readonly<Record<string, string>>,
  id: number,
): BlueprintSpec {
  const tenant = tenantId(Object.values(schemas)[0] ?? "none");
  const hash = String(id).padStart(64, "0");
  return {
    key: kind === "pooled" ? pooledKey(hash) : dedicatedKey(tenant, hash),
    kind,
    shape: "full",
    tenant,
    database: "main",
    schemas: Object.entries(schemas).map(([logical, physical]) => ({ logical, physical })),
    sharedSchemas: ["public"],
    api: null,
    mode: null,
    settings: {},
    enumTables: 0,
    enumFault: null,
    leftOut: [],
    readers: [],
  };
}
