/** The public app: GraphQL at whatever address routing gives it. It decides nothing of tenants, and parses no GraphQL. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { Hono } from "hono";
import { HostError, toHostError } from "../kernel/errors.ts";
import type { Eventually } from "../kernel/eventually.ts";
import type { TenantId } from "../kernel/ids.ts";
import type { Observation, Observe } from "../kernel/observation.ts";
import type { HostPhase } from "../kernel/phase.ts";
import type { StopSignal } from "../kernel/stop.ts";
import { discardBody } from "../protocol/body.ts";
import type { Answer } from "../protocol/messages.ts";
import type { RequestFacts } from "../tenant/route.ts";
import { Backlog } from "./backlog.ts";
import { Exchange, type ExchangeEnd } from "./exchange.ts";
import { InFlight, Stay } from "./in-flight.ts";
import { announcesBody, forwardedHeaders, readFacts, requireMediaType } from "./intake.ts";
import { readBody } from "./read-body.ts";
import { sendAnswer, sendFailure } from "./respond.ts";

export interface PublicRequest {
  readonly requestId: string;
  readonly facts: RequestFacts;
  /** What a cell needs of the request's headers, names in lower case. */
  readonly headers: Record<string, string>;
  /** Null but for POST. */
  readonly body: string | null;
  /** Aborts with a HostError: `CANCELLED` when the client goes away, `DEADLINE` when the time is up. */
  readonly signal: StopSignal;
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
    /** What slow clients may make the process keep. */
    readonly backlogBytes: number;
  };
  readonly observe: Observe;
  phase(): HostPhase;
}

export type PublicApp = Hono<{ Bindings: HttpBindings }>;

/** The app for `listen`. Every failure is JSON; one `request.done` is observed for each request. */
export function createPublicApp(deps: PublicDeps): PublicApp {
  const app: PublicApp = new Hono();
  const room: Room = {
    inFlight: new InFlight(deps.limits.tenantInFlight),
    backlog: new Backlog(deps.limits.backlogBytes),
  };
  app.all("*", ({ env: { incoming, outgoing } }) => {
    exchange(deps, room, incoming, outgoing).catch(() => outgoing.destroy());
    // Written straight to Node's response: one write for head and body, and a stream that fails can be cut off. Nobody waits for it.
    return RESPONSE_ALREADY_SENT;
  });
  return app;
}

/** What all requests share. */
interface Room {
  readonly inFlight: InFlight;
  readonly backlog: Backlog;
}

/** Answers up to this size are not worth counting. */
const smallBytes = 64 * 1024;

async function exchange(
  deps: PublicDeps,
  room: Room,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const onEnd = ({ status, code, durationMs }: ExchangeEnd, { tenant, requestId }: Exchange): void => {
    room.backlog.leave(incoming);
    room.backlog.leave(outgoing);
    stay.end();
    const done: Extract<Observation, { kind: "request.done" }> = {
      kind: "request.done",
      status,
      durationMs,
      requestId,
    };
    if (code !== undefined) done.code = code;
    if (tenant !== undefined) done.tenant = tenant;
    deps.observe(done);
  };
  const current = new Exchange(incoming, outgoing, deps.limits.requestTimeoutMs, onEnd);
  const stay = new Stay(room.inFlight);
  try {
    const phase = deps.phase();
    if (phase === "draining" || phase === "closed") throw new HostError("SHUTTING_DOWN");
    const facts = readFacts(incoming);
    const headers = forwardedHeaders(incoming);
    const body = await bodyOf(facts.method, current, deps.limits.bodyBytes, room.backlog);
    if (body === "") throw new HostError("BAD_REQUEST", "The request has no body.");
    const { requestId, signal } = current;
    const routed = (tenant: TenantId): void => {
      current.tenant = tenant;
      signal.throwIfAborted();
      stay.begin(tenant);
    };
    const work = deps.handle({ requestId, facts, headers, body, signal, routed });
    const answer = await current.unlessAborted(work, drop);
    const sending = sendAnswer(outgoing, answer, current.requestId, current.signal);
    if (sending instanceof Promise) await sending;
    // What the kernel has not taken waits here.
    const { writableLength } = outgoing;
    if (writableLength > smallBytes) room.backlog.add(outgoing, writableLength, () => outgoing.destroy());
  } catch (thrown) {
    // The deadline or the client's leaving comes first: what it breaks on its way is not the cause.
    current.error ??= toHostError(thrown);
    observeFailure(deps.observe, current.error, current);
    sendFailure(incoming, outgoing, current.error, current.requestId);
  }
}

function bodyOf(
  method: string,
  { incoming, outgoing, signal }: Exchange,
  limitBytes: number,
  backlog: Backlog,
): Eventually<string | null> {
  switch (method) {
    case "POST": {
      requireMediaType(incoming);
      return readBody(incoming, outgoing, limitBytes, signal, backlog);
    }
    case "GET":
    case "OPTIONS":
      if (announcesBody(incoming)) throw new HostError("BAD_REQUEST", `A ${method} request has no body.`);
      return null;
    default:
      throw new HostError("METHOD_NOT_ALLOWED");
  }
}

function drop(answer: Answer): void {
  if (answer.kind === "stream") discardBody(answer.port);
}

function observeFailure(observe: Observe, error: HostError, { requestId, tenant }: Exchange): void {
  if (error.code === "CANCELLED") return;
  observe({
    kind: "request.failed",
    requestId,
    code: error.code,
    error,
    ...(tenant === undefined ? {} : { tenant }),
  });
}
