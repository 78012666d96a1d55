/** The config that everything else is made from: checked, complete, in its units. It holds secrets: never print it whole. */
import type { RoutingRule } from "../tenants/router.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { TrustProxy } from "./trust-proxy.ts";

export interface DatabaseConfig {
  readonly url: string;
  /** A direct connection for LISTEN. */
  readonly listenUrl: string;
  /** Connections per cell. */
  readonly poolSize: number;
  /** Connections per cell beyond those, each opened for a tenant that holds none. */
  readonly poolReserve: number;
  readonly install: boolean;
}

export type TenantsConfig =
  | { readonly kind: "list"; readonly list: readonly Tenant[] }
  | { readonly kind: "table"; readonly database: string }
  /** A file URL. */
  | { readonly kind: "module"; readonly url: string }
  /** Nothing is configured: embedded PostgreSQL with demo tenants. There is no database then. */
  | { readonly kind: "demo" };

export interface Config {
  /** The file that it came from. */
  readonly file: string | null;
  /** The `.env` files that were read. */
  readonly envFiles: readonly string[];
  readonly production: boolean;
  readonly listen: { readonly host: string; readonly port: number; readonly trustProxy: TrustProxy };
  readonly admin: { readonly host: string; readonly port: number; readonly token: string | null };
  readonly databases: Readonly<Record<string, DatabaseConfig>>;
  readonly tenants: TenantsConfig;
  readonly routing: readonly RoutingRule[];
  /** A file URL. */
  readonly preset: string | null;
  /** What of a request's head the preset is told: names of headers, and `cookie:NAME`. */
  readonly requestHeaders: readonly string[];
  readonly pooling: boolean;
  readonly guard: "writes" | "all" | "off";
  /** How often hosts look for changes that nothing announces. */
  readonly guardPollMs: number;
  readonly roleSafety: "refuse" | "warn" | "off";
  /** Objects whose SQL may reach beyond their tenant, by schema and name: `app.audit`. */
  readonly acceptedSql: readonly string[];
  readonly cells: {
    readonly heapMb: number;
    readonly hardLimitFactor: number;
    readonly headroomMb: number;
    readonly youngMb: number;
    /** null: as many as fit. */
    readonly max: number | null;
    /** What the whole process may use. */
    readonly memoryMb: number;
    /** null: as many as fit. */
    readonly instances: number | null;
    readonly instanceHeapMb: number;
    readonly spare: number;
    readonly replicas: number;
    /** More than this share of a cell over that time, while others wait, has a tenant served apart; 1: never. */
    readonly quarantine: { readonly share: number; readonly windowMs: number };
    readonly idleTtlMs: number;
    readonly drainTimeoutMs: number;
    readonly stallTimeoutMs: number;
  };
  readonly builds: { readonly concurrency: number; readonly queue: number; readonly timeoutMs: number };
  readonly limits: {
    readonly bodyBytes: number;
    readonly requestTimeoutMs: number;
    readonly resultBytes: number;
    readonly statementTimeoutMs: number;
    /** Requests of one tenant at a time. */
    readonly tenantInFlight: number;
    /** Connections to the public listener. */
    readonly connections: number;
    /** Of one client address. */
    readonly addressConnections: number;
    readonly fields: number;
    readonly depth: number;
    /** Values in the variables of one request. */
    readonly variables: number;
    readonly variablesDepth: number;
  };
  readonly graphiql: boolean;
  readonly introspection: boolean;
}
