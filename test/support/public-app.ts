/** A public app on a socket of its own, with a stand-in for the host behind it. */
import type { TrustProxy } from "../../src/config/trust-proxy.ts";
import { ClientBacklog } from "../../src/http/client-backlog.ts";
import { Proxies } from "../../src/http/proxies.ts";
import { type PublicRequest, servePublic } from "../../src/http/public/app.ts";
import { NamedHeaders } from "../../src/http/public/named-headers.ts";
import { type Listening, listen } from "../../src/http/server.ts";
import type { Observation } from "../../src/observability/observation.ts";
import type { HostPhase } from "../../src/shared/kernel/phase.ts";
import type { Answer } from "../../src/shared/protocol/messages.ts";

export interface TestApp extends Listening {
  readonly requests: PublicRequest[];
  readonly observations: Observation[];
  /** Resolves with the `request.done` of the nth request, from 1. */
  done(nth: number): Promise<Extract<Observation, { kind: "request.done" }>>;
  phase: HostPhase;
}

export const textAnswer = (body: string): Answer => ({
  kind: "text",
  status: 200,
  headers: { "content-type": "application/json" },
  body,
});

export async function startPublicApp(
  handle: (request: PublicRequest) => Promise<Answer>,
  limits: {
    bodyBytes?: number;
    requestTimeoutMs?: number;
    tenantInFlight?: number;
    backlogBytes?: number;
    connections?: number;
    addressConnections?: number;
  } = {},
  trustProxy: TrustProxy = false,
  named: readonly string[] = [],
): Promise<TestApp> {
  const requests: PublicRequest[] = [];
  const observations: Observation[] = [];
  const watchers = new Set<() => void>();
  const state = { phase: "ready" as HostPhase };
  const observe = (observation: Observation): void => {
    observations.push(observation);
    for (const watch of watchers) watch();
  };
  const proxies = new Proxies(trustProxy);
  const serve = servePublic({
    subscriptions: null,
    backlog: new ClientBacklog(limits.backlogBytes ?? 2 ** 26),
    proxies,
    namedHeaders: new NamedHeaders(named),
    handle: (request) => {
      requests.push(request);
      return handle(request);
    },
    limits: {
      bodyBytes: 1000,
      requestTimeoutMs: 10_000,
      tenantInFlight: 100,
      addressConnections: 256,
      ...limits,
    },
    observe,
    phase: () => state.phase,
  });
  const { connections = 256, addressConnections = 256 } = limits;
  const isProxy = (address: string): boolean => proxies.isProxy(address);
  const listening = await listen(
    serve,
    { host: "127.0.0.1", port: 0, connections, addressConnections, isProxy },
    observe,
  );
  const ended = () => observations.filter((observation) => observation.kind === "request.done");
  return Object.assign(state, listening, {
    requests,
    observations,
    done: (nth: number) =>
      new Promise<Extract<Observation, { kind: "request.done" }>>((resolve) => {
        const watch = (): void => {
          const found = ended()[nth - 1];
          if (found === undefined) return;
          watchers.delete(watch);
          resolve(found);
        };
        watchers.add(watch);
        watch();
      }),
  });
}
