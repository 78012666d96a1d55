/** What the public app needs for subscriptions. */

import type { Sink } from "../../realtime/execution.ts";
import type { Operation, Subscription } from "../../realtime/live-queries.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { RequestFacts } from "../../tenants/router.ts";

/** A request to subscribe. */
export interface SubscribeRequest {
  readonly requestId: string;
  readonly facts: RequestFacts;
  readonly headers: Record<string, string>;
  readonly body: string;
}

export interface Subscriptions {
  /** Connections, and those of one tenant. */
  readonly connections: number;
  readonly tenantConnections: number;
  readonly pingMs: number;
  readonly counts: () => { readonly subscriptions: number; readonly executions: number };
  readonly connectionSubscriptions: number;
  readonly initTimeoutMs: number;
  readonly bufferBytes: number;
  /** Origins of other sites' pages that may bring credentials. */
  readonly origins: readonly string[];
  /** The tenant of a request, and whether it is served; rejects with the HostError to answer with. */
  admit(facts: RequestFacts, anonymously: boolean): Promise<TenantId>;
  /** Admits a request; rejects with the HostError to answer with. */
  open(request: SubscribeRequest): Promise<Operation>;
  /** Throws `TENANT_BUSY`. */
  subscribe(operation: Operation, sink: Sink): Subscription;
  /** Cuts every subscriber off. */
  drain(): void;
}
