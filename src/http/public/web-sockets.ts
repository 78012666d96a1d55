/** Accepts WebSockets while there is room for them. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { WebSocketServer } from "ws";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import type { HostPhase } from "../../shared/kernel/phase.ts";
import type { Peer } from "../connection.ts";
import { renderRawFailure } from "../error-response.ts";
import type { Proxies } from "../proxies.ts";
import { dismiss } from "../refusal.ts";
import { forwardedHeaders, readFacts, readRequestId } from "../request-head.ts";
import type { NamedHeaders } from "./named-headers.ts";
import type { StreamRoom } from "./stream-room.ts";
import type { SubscribeRequest, Subscriptions } from "./subscriptions.ts";
import { SubscriberSocket } from "./web-socket.ts";

const protocol = "graphql-transport-ws";

export interface WebSocketDeps {
  readonly subscriptions: Subscriptions;
  readonly room: StreamRoom;
  readonly proxies: Proxies;
  readonly namedHeaders: NamedHeaders;
  readonly bodyBytes: number;
  phase(): HostPhase;
}

export class WebSockets {
  readonly #deps: WebSocketDeps;
  readonly #server: WebSocketServer;
  readonly #sockets = new Set<SubscriberSocket>();
  #isDraining = false;

  constructor(deps: WebSocketDeps) {
    this.#deps = deps;
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: deps.bodyBytes,
      // It takes a quarter of a megabyte for each socket.
      perMessageDeflate: false,
      handleProtocols: () => protocol,
    });
  }

  /** Takes over a connection: accepts it, or answers as any request is refused and closes it. */
  readonly upgrade = (incoming: IncomingMessage, socket: Socket, head: Buffer, peer: Peer): void => {
    const ignore = (): void => {};
    socket.on("error", ignore);
    this.#accept(incoming, socket, head, peer).then(
      () => socket.off("error", ignore),
      (error: unknown) => dismiss(socket, renderRawFailure(toHostError(error))),
    );
  };

  /** Closes all sockets in `limitMs` at most, and accepts no more. */
  drain(limitMs: number): void {
    this.#isDraining = true;
    for (const each of [...this.#sockets]) each.drain(limitMs);
  }

  async #accept(incoming: IncomingMessage, socket: Socket, head: Buffer, peer: Peer): Promise<void> {
    const request = this.#check(incoming, peer);
    const tenant = await this.#deps.subscriptions.admit(
      request.facts,
      request.facts.header("authorization") === null,
    );
    if (this.#isDraining) throw new HostError("SHUTTING_DOWN");
    if (socket.destroyed) return;
    const leave = this.#deps.room.enter(tenant);
    socket.once("close", leave);
    this.#server.handleUpgrade(incoming, socket, head, (accepted) => {
      const made = new SubscriberSocket(accepted, request, this.#deps.subscriptions);
      this.#sockets.add(made);
      accepted.on("close", () => this.#sockets.delete(made));
    });
  }

  #check(incoming: IncomingMessage, peer: Peer): Omit<SubscribeRequest, "body"> {
    const { phase, proxies, namedHeaders, subscriptions } = this.#deps;
    const now = phase();
    if (now === "draining" || now === "closed") throw new HostError("SHUTTING_DOWN");
    const facts = readFacts(incoming, peer.isProxy ? proxies.clientOf(incoming) : undefined);
    const headers = forwardedHeaders(incoming);
    namedHeaders.pick(incoming, headers);
    const offered = facts.header("sec-websocket-protocol")?.split(",") ?? [];
    if (!offered.some((each) => each.trim() === protocol)) {
      throw new HostError("BAD_REQUEST", `The WebSocket must offer the protocol ${protocol}.`);
    }
    refuseForeign(facts, subscriptions.origins);
    return { requestId: readRequestId(incoming), facts, headers };
  }
}

/** Browsers let any page open a WebSocket to any host, and add the credentials that they have for it. */
function refuseForeign({ host, header }: SubscribeRequest["facts"], origins: readonly string[]): void {
  const origin = header("origin");
  if (origin === null || (header("authorization") === null && header("cookie") === null)) return;
  if (origins.includes(origin) || (URL.canParse(origin) && new URL(origin).host === host)) return;
  throw new HostError("CROSS_SITE");
}
