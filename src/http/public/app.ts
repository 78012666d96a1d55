/**
 * The public app: GraphQL at whatever path a tenant's preset serves it. Hono routes by method and handles errors; each route is one
 * handler that makes its checks in order. As a chain of middleware the same checks took 9 % more of the front's CPU
 * (docs/adr/0013-hono-on-the-public-listener.md).
 *
 * Answers and failures are written to Node's response directly (`RESPONSE_ALREADY_SENT`): head and body take one write, and a stream
 * that fails can be cut off.
 */
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { Hono } from "hono";
import type { Observe } from "../../observability/observation.ts";
import type { CancellationToken } from "../../shared/kernel/cancellation.ts";
import { HostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { HostPhase } from "../../shared/kernel/phase.ts";
import { discardBody } from "../../shared/protocol/body-stream.ts";
import type { Answer } from "../../shared/protocol/messages.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import type { ClientBacklog } from "../client-backlog.ts";
import { serveDirectly } from "../fetch-app.ts";
import type { Proxies } from "../proxies.ts";
import { readBody } from "../read-body.ts";
import { addressBusy } from "../refusal.ts";
import {
  announcesBody,
  forwardedHeaders,
  opensWebSocket,
  readFacts,
  requireMediaType,
} from "../request-head.ts";
import type { Serve } from "../server.ts";
import { prefersEvents } from "./event-stream.ts";
import { EventStreams, operationIn } from "./event-streams.ts";
import { Exchange, type ExchangeDeps } from "./exchange.ts";
import { type NamedHeaders, varyBy } from "./named-headers.ts";
import { sendAnswer, sendFailure } from "./respond.ts";
import type { Subscriptions } from "./subscriptions.ts";
import { ConcurrencyLimit } from "./tenant-concurrency.ts";

export interface PublicRequest {
  readonly requestId: string;
  readonly facts: RequestFacts;
  /** The headers that a cell needs, with names in lower case. */
  readonly headers: Record<string, string>;
  /** Null unless the method is POST. */
  readonly body: string | null;
  /** Aborts with a HostError: `CANCELLED` when the client leaves, `DEADLINE` when the time is up. */
  readonly signal: CancellationToken;
  /** To be called whenever the tenant is known; throws `TENANT_BUSY` if it has too many requests under way. */
  readonly routed: (tenant: TenantId) => void;
}

export interface PublicDeps {
  /** Rejects with the HostError that the client is to be told of. The app takes over the answer's headers. */
  handle(request: PublicRequest): Promise<Answer>;
  readonly limits: {
    readonly bodyBytes: number;
    readonly requestTimeoutMs: number;
    readonly tenantInFlight: number;
    /** Requests under way of one client behind a trusted proxy. */
    readonly addressConnections: number;
  };
  /** Null if there are none. */
  readonly subscriptions: Subscriptions | null;
  /** What slow clients occupy. */
  readonly backlog: ClientBacklog;
  /** Whom to believe about a client's address. */
  readonly proxies: Proxies;
  /** The headers that presets are told beside those that every cell gets. */
  readonly namedHeaders: NamedHeaders;
  readonly observe: Observe;
  phase(): HostPhase;
}

/**
 * Serves the app. Every failure is JSON; one `request.done` is observed for each request. Each route is for every path: a
 * preset may serve GraphQL, GraphiQL and its assets anywhere, behind the prefix that names the tenant.
 */
export function servePublic(deps: PublicDeps): Serve {
  // A request's exchange is its environment.
  const app = new Hono<{ Bindings: Exchange }>({ getPath: () => "/" });
  const { subscriptions } = deps;
  const streams = subscriptions === null ? null : new EventStreams(subscriptions);

  app.post("*", async ({ env: exchange }) => {
    const request = admitted(deps, exchange);
    requireMediaType(exchange.incoming);
    const body = await readBody(exchange, deps.limits.bodyBytes, exchange.bodyWait);
    if (body === "") throw new HostError("BAD_REQUEST", "The request has no body.");
    if (streams !== null && prefersEvents(request.headers["accept"])) {
      await streams.begin(request, body);
      return RESPONSE_ALREADY_SENT;
    }
    return answer(deps, request, body);
  });

  app.on(["GET", "OPTIONS"], "*", async ({ env: exchange }) => {
    const request = admitted(deps, exchange);
    refuseBody(exchange);
    const { facts, headers } = request;
    if (streams !== null && facts.method === "GET" && prefersEvents(headers["accept"])) {
      const body = operationIn(facts.query);
      if (body !== null) {
        await streams.begin(request, body);
        return RESPONSE_ALREADY_SENT;
      }
    }
    return answer(deps, request, null);
  });

  app.notFound(({ env: exchange }) => {
    admitted(deps, exchange);
    throw new HostError("METHOD_NOT_ALLOWED");
  });

  app.onError((thrown, { env: exchange }) => {
    sendFailure(exchange, exchange.fail(thrown), "GET, POST, OPTIONS");
    return RESPONSE_ALREADY_SENT;
  });

  const shared = exchangeDeps(deps);
  return serveDirectly(app, (incoming, outgoing, peer) => new Exchange(incoming, outgoing, peer, shared));
}

function exchangeDeps({ limits, backlog, proxies, observe }: PublicDeps): ExchangeDeps {
  return {
    requestTimeoutMs: limits.requestTimeoutMs,
    tenants: new ConcurrencyLimit(limits.tenantInFlight, () => new HostError("TENANT_BUSY")),
    clients: new ConcurrencyLimit(limits.addressConnections, addressBusy),
    backlog,
    proxies,
    observe,
  };
}

/** A request whose head has passed all checks. `answer` takes nothing else, so no route can leave them out. */
interface Admitted {
  readonly exchange: Exchange;
  readonly facts: RequestFacts;
  readonly headers: Record<string, string>;
}

/**
 * The checks that every request passes, in this order: `SHUTTING_DOWN` while the host drains; `EXPECTATION_FAILED` or `BAD_REQUEST` for a
 * head that asks for what is not offered, is malformed or could be read in two ways; `ADDRESS_BUSY` for a client behind a proxy that has
 * too many requests under way.
 */
function admitted({ phase, namedHeaders }: PublicDeps, exchange: Exchange): Admitted {
  const now = phase();
  if (now === "draining" || now === "closed") throw new HostError("SHUTTING_DOWN");
  const { incoming, forwardedFor } = exchange;
  const facts = readFacts(incoming, forwardedFor);
  const headers = forwardedHeaders(incoming);
  namedHeaders.pick(incoming, headers);
  exchange.admitClient();
  return { exchange, facts, headers };
}

/** Throws `BAD_REQUEST` for a body, and for a WebSocket. */
function refuseBody({ incoming, outgoing }: Exchange): void {
  if (announcesBody(incoming)) {
    throw new HostError("BAD_REQUEST", `A ${incoming.method} request has no body.`);
  }
  if (opensWebSocket(incoming)) {
    outgoing.shouldKeepAlive = false;
    throw new HostError("BAD_REQUEST", "WebSockets are not supported for this request.");
  }
}

/** Has a request that has arrived completely answered, and writes the answer. */
async function answer(
  { handle, namedHeaders: { vary } }: PublicDeps,
  { exchange, facts, headers }: Admitted,
  body: string | null,
): Promise<Response> {
  exchange.received();
  const { requestId, signal } = exchange;
  const routed = (tenant: TenantId): void => exchange.routed(tenant);
  const work = handle({ requestId, facts, headers, body, signal, routed });
  const found = await exchange.unlessAborted(work, drop);
  if (vary !== null) varyBy(found.headers, vary);
  const sending = sendAnswer(exchange, found);
  if (sending instanceof Promise) await sending;
  exchange.countUnsent();
  return RESPONSE_ALREADY_SENT;
}

function drop(answer: Answer): void {
  if (answer.kind === "stream") discardBody(answer.port);
}
