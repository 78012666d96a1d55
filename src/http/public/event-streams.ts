/** Opens event streams while there is room for them. */
import { HostError } from "../../shared/kernel/errors.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import { EventStream } from "./event-stream.ts";
import type { Exchange } from "./exchange.ts";
import { refuseForeign } from "./origins.ts";
import type { Subscriptions } from "./subscriptions.ts";

interface StreamRequest {
  readonly exchange: Exchange;
  readonly facts: RequestFacts;
  readonly headers: Record<string, string>;
}

export class EventStreams {
  readonly #subscriptions: Subscriptions;

  constructor(subscriptions: Subscriptions) {
    this.#subscriptions = subscriptions;
  }

  /**
   * Subscribes to the operation in `body` and streams its results; resolves once the head has been sent. Rejects with what the
   * client is to be told instead: as for a request, and `SERVER_BUSY` or `TENANT_BUSY` if there are too many streams.
   */
  async begin({ exchange, facts, headers }: StreamRequest, body: string): Promise<void> {
    exchange.received();
    const { requestId, outgoing } = exchange;
    const { room, origins } = this.#subscriptions;
    // Any page can send a GET, and its browser adds credentials.
    const queriesOnly = facts.method === "GET";
    if (queriesOnly) refuseForeign(facts, origins);
    const opening = this.#subscriptions.open({ requestId, facts, headers, body, queriesOnly });
    const operation = await exchange.unlessAborted(opening, () => {});
    if (outgoing.closed) return;
    outgoing.on("close", room.enter(operation.identity.tenant, "sse"));
    const stream = new EventStream(exchange, this.#subscriptions, body.length);
    try {
      stream.follow(this.#subscriptions.subscribe(operation, stream));
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      stream.fail(error);
    }
  }
}

/** The request in the query of a GET, as the body of a POST; null if it has none. Throws `BAD_REQUEST` for what is not JSON in it. */
export function operationIn(query: string): string | null {
  const given = new URLSearchParams(query);
  if (!given.has("query")) return null;
  const request: Record<string, unknown> = { query: given.get("query") };
  const operationName = given.get("operationName");
  if (operationName !== null) request["operationName"] = operationName;
  for (const name of ["variables", "extensions"]) {
    const text = given.get(name);
    if (text !== null && text !== "") request[name] = parsed(name, text);
  }
  return JSON.stringify(request);
}

function parsed(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new HostError("BAD_REQUEST", `The ${name} in the URL are not JSON.`);
  }
}
