/** What the public app needs for subscriptions. */

import type { Sink } from "../../realtime/execution.ts";
import type { Operation } from "../../realtime/live-queries.ts";
import type { Subscription } from "../../realtime/subscription.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import type { StreamRoom, Transport } from "./stream-room.ts";

/** A request to subscribe. */
export interface SubscribeRequest {
  readonly requestId: string;
  readonly facts: RequestFacts;
  readonly headers: Record<string, string>;
  readonly body: string;
  /** Whether anything but a query is refused. */
  readonly queriesOnly?: boolean;
}

export interface Subscriptions {
  readonly room: StreamRoom;
  readonly pingMs: number;
  /** The longest that an operation is waited for. */
  readonly requestTimeoutMs: number;
  readonly counts: () => {
    readonly subscriptions: number;
    readonly executions: number;
    readonly connections: Readonly<Record<Transport, number>>;
  };
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
