/** The decision for one tenant: which instance serves it, and if it is not pooled, why. */
import { createHash } from "node:crypto";
import { QuoteUtils } from "@pgsql/quotes";
import type { Finding } from "../role-safety/finding.ts";
import { type BlueprintInput, blueprintKey, tenantKey } from "../shape/blueprint.ts";
import { type EnumFault, enumFaultText } from "../shape/enum-tables.ts";
import type { InstanceKey, ShapeHash } from "../shared/kernel/ids.ts";
import { type BlueprintSpec, pathSchemas } from "../shared/model/blueprint-spec.ts";
import type { TenantBinding, TenantGuard } from "../shared/model/tenant-binding.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { judgeHidden } from "./left-out.ts";
import type { Probe } from "./probe.ts";
import { initialBasis, type SharingBasis } from "./sharing-basis.ts";

export interface Decision {
  readonly tenant: Tenant;
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  /** Why the tenant is not pooled; null if it is. */
  readonly reason: string | null;
  /** Objects that are not visible by their unqualified names. */
  readonly hidden: readonly string[];
  /** Privileges of its roles that they should not have. */
  readonly unsafe: readonly Finding[];
  readonly shape: ShapeHash;
  readonly core: ShapeHash;
  readonly revisions: Readonly<Record<string, string>>;
  /** Short text that changes whenever path, shape or revisions do. */
  readonly version: string;
  readonly spec: BlueprintSpec;
  /** JSON of the TenantBinding that accompanies its requests. */
  readonly binding: string;
}

/** Settings that apply to the decisions of all tenants. */
export interface DecisionRules {
  readonly pooling: boolean;
  readonly presetVersion: string;
  readonly hostVersion: string;
  readonly guard: "writes" | "all" | "off";
}

/** What is known in addition to the probe. */
export interface Judgement {
  readonly unshareable: (key: InstanceKey) => string | undefined;
  /** By which shape a pooled tenant shares; by default the full one. */
  readonly basis?: SharingBasis;
  readonly unsafe?: readonly Finding[];
}

/**
 * The decision that follows from `probe`. `unshareable` returns why a pooled key must not be shared, if so;
 * `unsafe` lists the findings about the tenant's roles.
 */
export function decisionOf(
  tenant: Tenant,
  { shape: probed, lock }: Probe,
  rules: DecisionRules,
  { unshareable, basis = initialBasis(false), unsafe = [] }: Judgement,
): Decision {
  const { pooling, presetVersion, hostVersion } = rules;
  const { shape, core, hidden, named, prepares, notifies, revisions, enumTables } = probed;
  const input: BlueprintInput = { ...tenant, shape, presetVersion, hostVersion };
  const judged = judgeHidden(tenant, probed);
  const sharedBy = basis.shape === "core" ? core : shape;
  const pooledKey = blueprintKey({ ...input, shape: sharedBy, leftOut: judged.labels });
  const refusal = judged.reason ?? namedReason(named) ?? unshareable(pooledKey) ?? null;
  const reason = pooling ? refusal : "pooling is disabled";
  const kind = reason === null ? "pooled" : "dedicated";
  const key = kind === "pooled" ? pooledKey : tenantKey(tenant.id, input);
  const searchPath = pathSchemas(tenant);
  const { id, database, schemas, sharedSchemas, api, mode, settings, roles } = tenant;
  const binding: TenantBinding = {
    tenant: id,
    searchPath,
    statementTag: statementTag(searchPath, shape, revisions),
    roles: listedRoles(roles),
    prepares,
    notifies,
    guard: guardOf(revisions, lock, rules.guard),
  };
  return {
    tenant,
    key,
    kind,
    reason,
    hidden,
    unsafe,
    shape,
    core,
    revisions,
    spec: {
      key,
      kind,
      shape: kind === "pooled" ? basis.shape : "full",
      tenant: id,
      database,
      schemas,
      sharedSchemas,
      api,
      mode,
      settings,
      enumTables,
      enumFault: enumFaultOf(probed.enumFaults, binding.roles),
      leftOut: kind === "pooled" ? judged.leftOut : [],
      readers: binding.roles,
    },
    version: binding.statementTag,
    binding: JSON.stringify(binding),
  };
}

function enumFaultOf([first, ...more]: readonly EnumFault[], roles: readonly string[]): string | null {
  if (first === undefined) return null;
  const said = enumFaultText(
    first,
    roles.map((role) => QuoteUtils.quoteIdentifier(role)),
  );
  return more.length === 0 ? said : `${said}; likewise ${more.map(({ table }) => table).join(", ")}`;
}

function namedReason([tag, ...others]: readonly string[]): string | null {
  if (tag === undefined) return null;
  const said = others.length === 0 ? "contains" : `and ${others.length} more contain`;
  return `a smart tag (${tag}) ${said} a physical schema name: use the logical name, or omit the schema`;
}

/** Changes whenever path, shape or revisions do; 16 characters of a hash keep statement names below 63 bytes. */
function statementTag(
  path: readonly string[],
  shape: ShapeHash,
  revisions: Readonly<Record<string, string>>,
): string {
  const text = JSON.stringify([path, shape, Object.entries(revisions).sort()]);
  return createHash("sha256").update(text).digest("base64url").slice(0, 16);
}

function guardOf(
  revisions: Readonly<Record<string, string>>,
  lock: string | null,
  rule: DecisionRules["guard"],
): TenantGuard | null {
  if (lock === null || rule === "off") return null;
  const entries = Object.entries(revisions);
  return {
    reads: rule === "all",
    schemas: entries.map(([schema]) => schema),
    revisions: entries.map(([, revision]) => revision),
    lock,
  };
}
