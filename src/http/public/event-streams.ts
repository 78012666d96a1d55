/** Opens event streams while there is room for them. */
import { HostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import { EventStream } from "./event-stream.ts";
import type { Exchange } from "./exchange.ts";
import type { Subscriptions } from "./subscriptions.ts";
import { ConcurrencyLimit } from "./tenant-concurrency.ts";

interface StreamRequest {
  readonly exchange: Exchange;
  readonly facts: RequestFacts;
  readonly headers: Record<string, string>;
}

export class EventStreams {
  readonly #subscriptions: Subscriptions;
  readonly #tenants: ConcurrencyLimit<TenantId>;
  readonly #all: ConcurrencyLimit<"all">;

  constructor(subscriptions: Subscriptions) {
    this.#subscriptions = subscriptions;
    const { connections, tenantConnections } = subscriptions;
    this.#tenants = new ConcurrencyLimit(tenantConnections, () => new HostError("TENANT_BUSY"));
    this.#all = new ConcurrencyLimit(connections, () => new HostError("SERVER_BUSY"));
  }

  /**
   * Subscribes to the operation in `body` and streams its results; resolves once the head has been sent. Rejects with what the
   * client is to be told instead: as for a request, and `SERVER_BUSY` or `TENANT_BUSY` if there are too many streams.
   */
  async begin({ exchange, facts, headers }: StreamRequest, body: string): Promise<void> {
    exchange.received();
    const { requestId, outgoing } = exchange;
    const opening = this.#subscriptions.open({ requestId, facts, headers, body });
    const operation = await exchange.unlessAborted(opening, () => {});
    if (outgoing.closed) return;
    const { tenant } = operation.identity;
    this.#all.acquire("all");
    try {
      this.#tenants.acquire(tenant);
    } catch (error) {
      this.#all.release("all");
      throw error;
    }
    outgoing.on("close", () => {
      this.#all.release("all");
      this.#tenants.release(tenant);
    });
    const stream = new EventStream(exchange, this.#subscriptions.pingMs);
    try {
      stream.follow(this.#subscriptions.subscribe(operation, stream));
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      stream.fail(error);
    }
  }
}
