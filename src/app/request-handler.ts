/** Admits a request (finds its tenant, and the settings from its token) and dispatches it. */
import type { Authenticator } from "../auth/authenticator.ts";
import type { Config } from "../config/config.ts";
import type { Decisions } from "../decisions/decisions.ts";
import { LockBackoff } from "../decisions/lock-backoff.ts";
import { type Admitted, Dispatcher } from "../dispatch/dispatcher.ts";
import { patienceOf } from "../dispatch/retry-budget.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { PublicRequest } from "../http/public/app.ts";
import type { Observe } from "../observability/observation.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { type MaybePromise, whenKnown } from "../shared/kernel/eventually.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import type { Answer } from "../shared/protocol/messages.ts";
import { createRouter, type RequestFacts } from "../tenants/router.ts";
import type { TenantSource } from "../tenants/source.ts";

/** Answers a request that needs no tenant, such as the demo's page; null for every other request. */
export type Welcome = (facts: RequestFacts) => Answer | null;

export interface RequestHandlerDeps {
  readonly config: Config;
  readonly source: TenantSource;
  readonly decisions: Decisions;
  readonly authenticator: Authenticator;
  readonly fleet: Fleet;
  readonly observe: Observe;
  readonly welcome: Welcome | undefined;
}

/** Finds the tenant of a request, and what it may do. Throws, or rejects with, the HostError to report to the client. */
export function createAdmission({
  config,
  source,
  authenticator,
}: Pick<RequestHandlerDeps, "config" | "source" | "authenticator">): (
  facts: RequestFacts,
  routed: (tenant: TenantId) => void,
) => MaybePromise<Admitted> {
  const router = createRouter(config.routing, source);
  return (facts, routed) =>
    whenKnown(router.route(facts), (found) => {
      if (found === null) throw new HostError("TENANT_UNKNOWN");
      const { tenant, path, basePath } = found;
      routed(tenant.id);
      return whenKnown(authenticator.settings(tenant, facts), (settings) => {
        return { tenant, path, basePath, settings, signing: authenticator.signing(tenant) };
      });
    });
}

export interface HandledRequest extends PublicRequest {
  /** Called with each attempt's admission; the answer is that of the last one. */
  readonly admitted?: (as: Admitted) => void;
}

/** Answers requests; rejects with the HostError to report to the client. Every attempt is admitted again. */
export function createRequestHandler(deps: RequestHandlerDeps): (request: HandledRequest) => Promise<Answer> {
  const { welcome } = deps;
  const admission = createAdmission(deps);
  const dispatcher = createDispatcher(deps);
  return (request: HandledRequest): Promise<Answer> => {
    const { facts, headers, body, signal, routed, admitted } = request;
    const page = welcome?.(facts) ?? null;
    if (page !== null) return Promise.resolve(page);
    const admit = (): MaybePromise<Admitted> => {
      const found = admission(facts, routed);
      if (admitted === undefined) return found;
      return whenKnown(found, (as) => {
        admitted(as);
        return as;
      });
    };
    const { method, query } = facts;
    return dispatcher.dispatch({ method, query, headers, body, signal, admit });
  };
}

function createDispatcher({ config, source, decisions, fleet, observe }: RequestHandlerDeps): Dispatcher {
  const pauses = new LockBackoff({ decisions });
  return new Dispatcher({
    fleet,
    decide: (tenant) => pauses.decide(tenant),
    verify: (decision) => pauses.verify(decision),
    invalidate: (decision, revisions) => {
      decisions.invalidate(decision, revisions);
      source.outdate(decision.tenant);
    },
    refuse: (decision, error) => decisions.refuse(decision.spec, error),
    observe,
    patienceMs: patienceOf(config.limits.requestTimeoutMs),
  });
}
