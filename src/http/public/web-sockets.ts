/** Accepts WebSockets while there is room for them. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import type { Observe } from "../../observability/observation.ts";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { HostPhase } from "../../shared/kernel/phase.ts";
import type { ClientBacklog } from "../client-backlog.ts";
import type { Peer } from "../connection.ts";
import { renderRawFailure } from "../error-response.ts";
import type { Proxies } from "../proxies.ts";
import { dismiss } from "../refusal.ts";
import { forwardedHeaders, readFacts, readRequestId } from "../request-head.ts";
import { clientOf } from "./exchange.ts";
import type { NamedHeaders } from "./named-headers.ts";
import { refuseForeign } from "./origins.ts";
import type { SubscribeRequest, Subscriptions } from "./subscriptions.ts";
import { SubscriberSocket } from "./web-socket.ts";
import { closeCodes } from "./web-socket-messages.ts";

const protocol = "graphql-transport-ws";
/** How many sockets may be without their `connection_init` at a time. */
const maxNewcomers = 200;

export interface WebSocketDeps {
  readonly subscriptions: Subscriptions;
  readonly backlog: ClientBacklog;
  readonly proxies: Proxies;
  readonly namedHeaders: NamedHeaders;
  readonly bodyBytes: number;
  readonly observe: Observe;
  phase(): HostPhase;
}

export class WebSockets {
  readonly #deps: WebSocketDeps;
  readonly #server: WebSocketServer;
  readonly #sockets = new Set<SubscriberSocket>();
  readonly #newcomers = new Newcomers(maxNewcomers);
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
    const { subscriptions, proxies } = this.#deps;
    const tenant = await subscriptions.admit(request.facts, request.facts.header("authorization") === null);
    if (this.#isDraining) throw new HostError("SHUTTING_DOWN");
    if (socket.destroyed) return;
    socket.once("close", subscriptions.room.enter(tenant, "websocket"));
    const client = clientOf(peer, peer.isProxy ? proxies.clientOf(incoming) : undefined);
    this.#server.handleUpgrade(incoming, socket, head, (accepted) =>
      this.#begin(accepted, request, { tenant, client }),
    );
  }

  #begin(
    accepted: WebSocket,
    request: Omit<SubscribeRequest, "body">,
    { tenant, client }: { readonly tenant: TenantId; readonly client: string },
  ): void {
    const { subscriptions, backlog, observe } = this.#deps;
    const made = new SubscriberSocket(accepted, request, {
      subscriptions,
      wait: () => backlog.wait(client),
      onReady: () => this.#newcomers.leave(tenant, made),
    });
    this.#sockets.add(made);
    this.#newcomers.enter(tenant, made);
    accepted.on("close", (code) => {
      this.#sockets.delete(made);
      this.#newcomers.leave(tenant, made);
      observe({ kind: "realtime.closed", code });
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

/** Sockets whose clients have not introduced themselves yet. */
class Newcomers {
  readonly #most: number;
  readonly #byTenant = new Map<TenantId, Set<SubscriberSocket>>();
  #size = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Beyond the limit, the tenant that has most of them loses its oldest: no tenant's keep another's out. */
  enter(tenant: TenantId, socket: SubscriberSocket): void {
    const own = this.#byTenant.get(tenant) ?? new Set();
    own.add(socket);
    this.#byTenant.set(tenant, own);
    this.#size += 1;
    if (this.#size <= this.#most) return;
    let most: readonly [TenantId, ReadonlySet<SubscriberSocket>] = [tenant, own];
    for (const each of this.#byTenant) if (each[1].size > most[1].size) most = each;
    const [oldest = socket] = most[1];
    this.leave(most[0], oldest);
    oldest.close(closeCodes.initTimeout, "Too many connections wait for their initialisation");
  }

  leave(tenant: TenantId, socket: SubscriberSocket): void {
    const own = this.#byTenant.get(tenant);
    if (own?.delete(socket) !== true) return;
    this.#size -= 1;
    if (own.size === 0) this.#byTenant.delete(tenant);
  }
}
