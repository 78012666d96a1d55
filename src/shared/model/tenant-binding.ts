/** What a tenant's requests are bound to inside a thread. */
import type { TenantId } from "../kernel/ids.ts";

/**
 * What a tenant's transactions assert: that each schema is still at the revision that the request was routed
 * by.
 */
export interface TenantGuard {
  /** Whether reads assert it too. */
  readonly reads: boolean;
  readonly schemas: readonly string[];
  /** In the order of `schemas`; as text, because a bigint does not fit a number. */
  readonly revisions: readonly string[];
  /**
   * The key of the tenant's advisory lock, a bigint as text. It is secret: never log it, and pass it to
   * statements only as a parameter.
   */
  readonly lock: string;
}

/**
 * Everything about a tenant that a request needs inside a thread; never captured at build time. Sent as JSON,
 * with the same text for every request of a decision: a thread parses each text once, and copying it costs 3
 * µs less than a nested object.
 */
export interface TenantBinding {
  readonly tenant: TenantId;
  /** Physical schemas in order, then the shared ones; the adaptor adds `pg_temp`. */
  readonly searchPath: readonly string[];
  /** Short text that changes whenever path, shape or revisions do; part of statement names. */
  readonly statementTag: string;
  /** The roles that requests of this tenant may use. */
  readonly roles: readonly string[];
  /** Whether a function of the tenant could leave a prepared statement of its own on a connection. */
  readonly prepares: boolean;
  /** Whether a function of the tenant could NOTIFY in a read, which then has to be committed. */
  readonly notifies: boolean;
  /** Null if the guard is off or the database keeps no revisions. */
  readonly guard: TenantGuard | null;
}
