/** The admin API: its paths, what is sent to them, and what they answer. */
import { z } from "zod";
import type { ChangesView } from "../../control/looks.ts";
import type { Migrated } from "../../control/tenant-migration.ts";
import type { StatusSnapshot } from "../../observability/status.ts";
import type { FindingCode } from "../../role-safety/finding.ts";
import type { InstanceKey } from "../../shared/kernel/ids.ts";

export const adminPaths = {
  healthz: "/healthz",
  readyz: "/readyz",
  metrics: "/metrics",
  status: "/status",
  tenant: "/tenants/:id",
  evict: "/evict",
  flush: "/flush",
  migrate: "/tenants/:id/migrate",
} as const;

/** The paths that each method is for, by the value of `Allow`. */
export const adminMethods = {
  "GET, HEAD": [
    adminPaths.healthz,
    adminPaths.readyz,
    adminPaths.metrics,
    adminPaths.status,
    adminPaths.tenant,
  ],
  POST: [adminPaths.evict, adminPaths.flush, adminPaths.migrate],
};

const text = z.string().min(1).max(200);

export const evictTarget = z
  .strictObject({ key: text.exactOptional(), cell: text.exactOptional(), tenant: text.exactOptional() })
  .refine((target) => Object.keys(target).length === 1, "exactly one of key, cell and tenant is required");
export type EvictTarget = Readonly<z.output<typeof evictTarget>>;

export const migrateRequest = z.strictObject({
  // PostgreSQL's text cannot hold it.
  sql: z
    .string()
    .min(1)
    .refine((sql) => !sql.includes("\0") && sql.isWellFormed(), "contains a NUL or an unpaired surrogate"),
  expect: text.exactOptional(),
});
export type MigrateRequest = Readonly<z.output<typeof migrateRequest>>;

export const nothing = z.strictObject({});

export interface TenantView {
  readonly id: string;
  readonly key: InstanceKey;
  readonly kind: "pooled" | "dedicated";
  readonly reason?: string;
  readonly hidden?: readonly string[];
  /** What its roles could do that they should not. */
  readonly unsafe?: readonly string[];
  /** The codes of `unsafe`, each once. */
  readonly unsafeCodes?: readonly FindingCode[];
  readonly shape: string;
  /** Of the part of its shape that a build with known plugins reads. */
  readonly core: string;
  /** Which of the two decides with whom it shares an instance, and why: `the core shape: …`; missing if it shares none. */
  readonly sharesBy?: string;
  /** As text, because a revision may exceed what a JSON number holds. */
  readonly revisions: Readonly<Record<string, string>>;
  /** Logical name to physical, in order. */
  readonly schemas: Readonly<Record<string, string>>;
  /** How changes of its schemas are found. */
  readonly changes?: ChangesView;
}

export interface EvictedView {
  readonly evicted: readonly InstanceKey[];
}

export interface FlushedView extends EvictedView {
  /** How many decisions were forgotten. */
  readonly decisions: number;
}

/** What came of a migration: shapes before and after, revisions after. */
export type MigrationView = Omit<Migrated, "applied">;

/** What a host says of itself, without asking anyone. */
export interface Reports {
  health(): boolean;
  ready(): boolean;
  /** Whether a database takes no writes at the moment. */
  readOnly(): boolean;
  status(): StatusSnapshot;
}

/** What an operator may have a host do. Each may reject with a HostError; the results are rendered as JSON. */
export interface Operations {
  /** What is decided of a tenant, deciding it if need be. Throws `TENANT_UNKNOWN`, `SCHEMA_NOT_FOUND`, `DATABASE_UNREACHABLE`. */
  tenant(id: string): Promise<TenantView>;
  /** Takes instances out of service by key, cell or tenant; they drain meanwhile. Throws `NOT_FOUND` for a key or cell that is not there, `TENANT_UNKNOWN`. */
  evict(target: EvictTarget): Promise<EvictedView>;
  /** Evicts everything and forgets every decision. */
  flush(): Promise<FlushedView>;
  /**
   * Applies SQL to a tenant, and then forgets what was decided of it. Throws `TENANT_UNKNOWN`, `BAD_REQUEST`,
   * `SCHEMA_CHANGED` with the current shape where `expect` is another, and what `migrateTenant` does.
   */
  migrate(id: string, request: MigrateRequest): Promise<MigrationView>;
}

/** What the admin app asks of a host. */
export type AdminOperations = Operations & Reports;
