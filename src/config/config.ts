/** The validated and complete config, in normalised units. It holds secrets: never print it whole. */
import type { RenewAfter } from "../shared/protocol/messages.ts";
import type { RoutingRule } from "../tenants/router.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { TrustProxy } from "./trust-proxy.ts";

export interface DatabaseConfig {
  readonly url: string;
  /** A direct connection for LISTEN. */
  readonly listenUrl: string;
  /** Connections per cell. */
  readonly poolSize: number;
  /** Further connections per cell, each opened only for a tenant that holds none. */
  readonly poolReserve: number;
  /** When a connection of a cell is replaced by a new one; by default never. */
  readonly renewAfter?: RenewAfter;
  readonly install: boolean;
}

export type TenantsConfig =
  | { readonly kind: "list"; readonly list: readonly Tenant[] }
  | { readonly kind: "table"; readonly database: string }
  /** A file URL. */
  | { readonly kind: "module"; readonly url: string }
  /** Nothing is configured: embedded PostgreSQL with demo tenants, and no entry in `databases`. */
  | { readonly kind: "demo" };

export interface RealtimeConfig {
  /** How often a database with subscribers is asked for events. */
  readonly pollMs: number;
  /** How long events are kept for a host that is away. */
  readonly retentionMs: number;
  /** The least time between two runs of a live query. */
  readonly minIntervalMs: number;
  readonly connections: number;
  readonly tenantConnections: number;
  /** Subscriptions of one WebSocket. */
  readonly connectionSubscriptions: number;
  /** How long a WebSocket may take to introduce itself. */
  readonly initTimeoutMs: number;
  /** Unsent bytes of a client beyond which it gets only the newest result of each live query. */
  readonly bufferBytes: number;
  /** Origins of other sites' pages that may open WebSockets with the browser's credentials. */
  readonly origins: readonly string[];
  /** Executions of one tenant; subscribers with equal requests share one. */
  readonly tenantSubscriptions: number;
  readonly pingMs: number;
}

export interface Config {
  /** The config file; null if there is none. */
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
  /** Parts of a request's head that the preset may see: header names, and `cookie:NAME`. */
  readonly requestHeaders: readonly string[];
  readonly pooling: boolean;
  readonly guard: "writes" | "all" | "off";
  /** How often hosts poll for changes that nothing announces. */
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
    /** Memory that the whole process may use. */
    readonly memoryMb: number;
    /** null: as many as fit. */
    readonly instances: number | null;
    readonly instanceHeapMb: number;
    readonly spare: number;
    readonly replicas: number;
    /**
     * A tenant that takes more than this share of a cell over that time, while others compete, is isolated;
     * 1: never.
     */
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
    /** Concurrent requests per tenant. */
    readonly tenantInFlight: number;
    /** Connections to the public listener. */
    readonly connections: number;
    /** Connections per client address. */
    readonly addressConnections: number;
    readonly fields: number;
    readonly depth: number;
    /** Number of values in the variables of one request. */
    readonly variables: number;
    readonly variablesDepth: number;
  };
  /** Null: there are no subscriptions. */
  readonly realtime: RealtimeConfig | null;
  readonly graphiql: boolean;
  readonly introspection: boolean;
}
