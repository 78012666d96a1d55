/** What is decided of one tenant: which instance serves it, pooled or why not. */
import { createHash } from "node:crypto";
import type { InstanceKey, ShapeHash } from "../kernel/ids.ts";
import type { BlueprintSpec, TenantBinding, TenantGuard } from "../protocol/messages.ts";
import { type BlueprintInput, blueprintKey, tenantKey } from "../shape/blueprint.ts";
import type { Probe } from "./probe.ts";
import { listedRoles, type Tenant } from "./tenant.ts";

export interface Decision {
  readonly tenant: Tenant;
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  /** Why it is not pooled. */
  readonly reason: string | null;
  /** What unqualified SQL would not find. */
  readonly hidden: readonly string[];
  /** What its roles could do that they should not. */
  readonly unsafe: readonly string[];
  readonly shape: ShapeHash;
  readonly revisions: Readonly<Record<string, string>>;
  readonly spec: BlueprintSpec;
  /** JSON of the TenantBinding that goes with its requests. */
  readonly binding: string;
}

/** What decisions of all tenants have in common. */
export interface DecisionRules {
  readonly pooling: boolean;
  readonly presetVersion: string;
  readonly hostVersion: string;
  readonly guard: "writes" | "all" | "off";
}

/** What is known beside the probe. */
export interface Judgement {
  readonly unshareable: (key: InstanceKey) => string | undefined;
  readonly unsafe?: readonly string[];
}

/**
 * The decision that `probe` leads to; `unshareable` says why a pooled key must not be shared, if it must not, and `unsafe` what was
 * found of the tenant's roles.
 */
export function decisionOf(
  tenant: Tenant,
  { shape: probed, lock }: Probe,
  rules: DecisionRules,
  { unshareable, unsafe = [] }: Judgement,
): Decision {
  const { pooling, presetVersion, hostVersion } = rules;
  const { shape, hidden, named, prepares, revisions, enumTables } = probed;
  const input: BlueprintInput = { ...tenant, shape, presetVersion, hostVersion };
  const pooledKey = blueprintKey(input);
  const reason = reasonAgainst(pooling, hidden, named, unshareable(pooledKey));
  const kind = reason === null ? "pooled" : "dedicated";
  const key = kind === "pooled" ? pooledKey : tenantKey(tenant.id, input);
  const searchPath = [...tenant.schemas.map((schema) => schema.physical), ...tenant.sharedSchemas];
  const { id, database, schemas, sharedSchemas, api, mode, settings, roles } = tenant;
  const binding: TenantBinding = {
    tenant: id,
    searchPath,
    statementTag: statementTag(searchPath, shape, revisions),
    roles: listedRoles(roles),
    prepares,
    guard: lock !== null && rules.guard !== "off" ? guardOf(revisions, lock, rules.guard === "all") : null,
  };
  return {
    tenant,
    key,
    kind,
    reason,
    hidden,
    unsafe,
    shape,
    revisions,
    spec: { key, kind, tenant: id, database, schemas, sharedSchemas, api, mode, settings, enumTables },
    binding: JSON.stringify(binding),
  };
}

function reasonAgainst(
  pooling: boolean,
  hidden: readonly string[],
  named: readonly string[],
  unshareable: string | undefined,
): string | null {
  if (!pooling) return "pooling is off";
  const [first, ...more] = hidden;
  if (first !== undefined) {
    return `${first} is not visible by its bare name${more.length === 0 ? "" : `, nor are ${more.length} more`}`;
  }
  const [tag, ...others] = named;
  if (tag !== undefined) {
    const also = others.length === 0 ? "" : `, as do ${others.length} more`;
    return `a smart tag names a schema as the database does${also}: write its logical name, or leave it out (${tag})`;
  }
  return unshareable ?? null;
}

/** Differs whenever path, shape or revisions do; 16 characters of a hash, so that statement names stay under 63 bytes. */
function statementTag(
  path: readonly string[],
  shape: ShapeHash,
  revisions: Readonly<Record<string, string>>,
): string {
  const text = JSON.stringify([path, shape, Object.entries(revisions).sort()]);
  return createHash("sha256").update(text).digest("base64url").slice(0, 16);
}

function guardOf(revisions: Readonly<Record<string, string>>, lock: string, reads: boolean): TenantGuard {
  const entries = Object.entries(revisions);
  return {
    reads,
    schemas: entries.map(([schema]) => schema),
    revisions: entries.map(([, revision]) => revision),
    lock,
  };
}
