/** Opens event streams while there is room for them. */
import { HostError } from "../../shared/kernel/errors.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import { EventStream } from "./event-stream.ts";
import type { Exchange } from "./exchange.ts";
import type { StreamRoom } from "./stream-room.ts";
import type { Subscriptions } from "./subscriptions.ts";

interface StreamRequest {
  readonly exchange: Exchange;
  readonly facts: RequestFacts;
  readonly headers: Record<string, string>;
}

export class EventStreams {
  readonly #subscriptions: Subscriptions;
  readonly #room: StreamRoom;

  constructor(subscriptions: Subscriptions, room: StreamRoom) {
    this.#subscriptions = subscriptions;
    this.#room = room;
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
    outgoing.on("close", this.#room.enter(operation.identity.tenant));
    const stream = new EventStream(exchange, this.#subscriptions);
    try {
      stream.follow(this.#subscriptions.subscribe(operation, stream));
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      stream.fail(error);
    }
  }
}
