/** The public app: GraphQL at whatever address routing gives it. It decides nothing of tenants, and parses no GraphQL. */
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { Hono } from "hono";
import type { Observation, Observe } from "../../observability/observation.ts";
import type { CancellationToken } from "../../shared/kernel/cancellation.ts";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import type { MaybePromise } from "../../shared/kernel/eventually.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { HostPhase } from "../../shared/kernel/phase.ts";
import { discardBody } from "../../shared/protocol/body-stream.ts";
import type { Answer } from "../../shared/protocol/messages.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import { ClientBacklog, type Wait } from "../client-backlog.ts";
import type { DirectBindings } from "../fetch-app.ts";
import { networkOf } from "../network.ts";
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
import { Exchange, type ExchangeEnd } from "./exchange.ts";
import { type NamedHeaders, varyBy } from "./named-headers.ts";
import { sendAnswer, sendFailure } from "./respond.ts";
import { ConcurrencyLimit, ConcurrencySlot } from "./tenant-concurrency.ts";

export interface PublicRequest {
  readonly requestId: string;
  readonly facts: RequestFacts;
  /** What a cell needs of the request's headers, names in lower case. */
  readonly headers: Record<string, string>;
  /** Null but for POST. */
  readonly body: string | null;
  /** Aborts with a HostError: `CANCELLED` when the client goes away, `DEADLINE` when the time is up. */
  readonly signal: CancellationToken;
  /** To be called whenever the tenant is known; throws `TENANT_BUSY` where it has too many requests under way. */
  routed(tenant: TenantId): void;
}

export interface PublicDeps {
  /** Rejects with a HostError, which is what the client gets. The answer's headers become the app's. */
  handle(request: PublicRequest): Promise<Answer>;
  readonly limits: {
    readonly bodyBytes: number;
    readonly requestTimeoutMs: number;
    readonly tenantInFlight: number;
    /** Requests under way of one client behind a trusted proxy. */
    readonly addressConnections: number;
    /** What slow clients may make the process keep. */
    readonly backlogBytes: number;
  };
  /** Whose word is taken for a client's address. */
  readonly proxies: Proxies;
  /** What of the head presets are told beside what every cell is. */
  readonly namedHeaders: NamedHeaders;
  readonly observe: Observe;
  phase(): HostPhase;
}

export type PublicApp = Hono<{ Bindings: DirectBindings }>;

/** The app for `listen`. Every failure is JSON; one `request.done` is observed for each request. */
export function createPublicApp(deps: PublicDeps): PublicApp {
  const app: PublicApp = new Hono();
  const room: Room = {
    inFlight: new ConcurrencyLimit(deps.limits.tenantInFlight, () => new HostError("TENANT_BUSY")),
    clients: new ConcurrencyLimit(deps.limits.addressConnections, addressBusy),
    backlog: new ClientBacklog(deps.limits.backlogBytes),
  };
  app.all("*", ({ env }) => {
    exchange(deps, room, env).catch(() => env.outgoing.destroy());
    // Written straight to Node's response: one write for head and body, and a stream that fails can be cut off. Nobody waits for it.
    return RESPONSE_ALREADY_SENT;
  });
  return app;
}

/** What all requests share. */
interface Room {
  readonly inFlight: ConcurrencyLimit<TenantId>;
  /** Of clients that proxies have brought: the others are held by their connections. */
  readonly clients: ConcurrencyLimit<string>;
  readonly backlog: ClientBacklog;
}

/** Answers up to this size are not worth counting. */
const smallBytes = 64 * 1024;

async function exchange(
  deps: PublicDeps,
  room: Room,
  { incoming, outgoing, peer }: DirectBindings,
): Promise<void> {
  const onEnd = (end: ExchangeEnd, ended: Exchange): void => {
    peer.answered();
    bodyWait.leave();
    answerWait?.leave();
    stay.release();
    visit?.release();
    observeEnd(deps.observe, end, ended);
  };
  const current = new Exchange(incoming, outgoing, deps.limits.requestTimeoutMs, onEnd);
  const stay = new ConcurrencySlot(room.inFlight);
  const visit = peer.isProxy ? new ConcurrencySlot(room.clients) : null;
  const remoteAddress = visit === null ? undefined : deps.proxies.clientOf(incoming);
  const client = remoteAddress === undefined ? peer.address : networkOf(remoteAddress ?? nobody);
  const bodyWait = room.backlog.wait(client);
  let answerWait: Wait | undefined;
  try {
    const phase = deps.phase();
    if (phase === "draining" || phase === "closed") throw new HostError("SHUTTING_DOWN");
    const facts = readFacts(incoming, remoteAddress);
    const headers = forwardedHeaders(incoming);
    deps.namedHeaders.pick(incoming, headers);
    visit?.acquire(client);
    const body = await bodyOf(facts.method, current, deps.limits.bodyBytes, bodyWait);
    peer.received();
    if (body === "") throw new HostError("BAD_REQUEST", "The request has no body.");
    const { requestId, signal } = current;
    const routed = (tenant: TenantId): void => {
      current.tenant = tenant;
      signal.throwIfAborted();
      stay.acquire(tenant);
    };
    const work = deps.handle({ requestId, facts, headers, body, signal, routed });
    const answer = await current.unlessAborted(work, drop);
    const { vary } = deps.namedHeaders;
    if (vary !== null) varyBy(answer.headers, vary);
    const sending = sendAnswer(outgoing, answer, current.requestId, current.signal);
    if (sending instanceof Promise) await sending;
    // What the kernel has not taken waits here.
    const { writableLength } = outgoing;
    if (writableLength > smallBytes) {
      answerWait = room.backlog.wait(client);
      answerWait.add(writableLength, () => outgoing.destroy());
    }
  } catch (thrown) {
    // The deadline or the client's leaving comes first: what it breaks on its way is not the cause.
    current.error ??= toHostError(thrown);
    observeFailure(deps.observe, current.error, current);
    sendFailure(incoming, outgoing, current.error, current.requestId);
  }
}

/** Those together of whom a proxy says nothing that is an address. */
const nobody = "unknown";

function bodyOf(
  method: string,
  exchanged: Exchange,
  limitBytes: number,
  wait: Wait,
): MaybePromise<string | null> {
  const { incoming, outgoing } = exchanged;
  switch (method) {
    case "POST": {
      requireMediaType(incoming);
      return readBody(exchanged, limitBytes, wait);
    }
    case "GET":
    case "OPTIONS":
      if (announcesBody(incoming)) throw new HostError("BAD_REQUEST", `A ${method} request has no body.`);
      if (opensWebSocket(incoming)) {
        outgoing.shouldKeepAlive = false;
        throw new HostError("BAD_REQUEST", "WebSockets are not supported.");
      }
      return null;
    default:
      throw new HostError("METHOD_NOT_ALLOWED");
  }
}

function drop(answer: Answer): void {
  if (answer.kind === "stream") discardBody(answer.port);
}

function observeEnd(
  observe: Observe,
  { status, code, durationMs }: ExchangeEnd,
  { requestId, tenant }: Exchange,
): void {
  const done: Extract<Observation, { kind: "request.done" }> = {
    kind: "request.done",
    status,
    durationMs,
    requestId,
  };
  if (code !== undefined) done.code = code;
  if (tenant !== undefined) done.tenant = tenant;
  observe(done);
}

function observeFailure(observe: Observe, error: HostError, { requestId, tenant }: Exchange): void {
  if (error.code === "CANCELLED") return;
  observe({
    kind: "request.failed",
    requestId,
    code: error.code,
    ...(error.reason === undefined ? {} : { reason: error.reason }),
    error,
    ...(tenant === undefined ? {} : { tenant }),
  });
}
