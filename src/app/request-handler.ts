/** Admits a request (its tenant, and the settings that its token gives) and has it dispatched. */
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
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import type { Answer } from "../shared/protocol/messages.ts";
import { createRouter, type RequestFacts, type Routed } from "../tenants/router.ts";
import type { TenantSource } from "../tenants/source.ts";

/** The answer to a request that nobody has to be asked for, if it is one; null for every other. */
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

/** Answers requests; rejects with the HostError that the client is to be told of. Each attempt is admitted anew. */
export function createRequestHandler(deps: RequestHandlerDeps): (request: PublicRequest) => Promise<Answer> {
  const { config, source, authenticator, welcome } = deps;
  const router = createRouter(config.routing, source);
  const dispatcher = createDispatcher(deps);
  return (request: PublicRequest): Promise<Answer> => {
    const { facts, headers, body, signal } = request;
    const page = welcome?.(facts) ?? null;
    if (page !== null) return Promise.resolve(page);
    const admitRouted = (routed: Routed | null): MaybePromise<Admitted> => {
      if (routed === null) throw new HostError("TENANT_UNKNOWN");
      const { tenant, path, basePath } = routed;
      request.routed(tenant.id);
      const signing = authenticator.signing(tenant);
      const known = authenticator.known(tenant, facts);
      if (known !== undefined) return { tenant, path, basePath, settings: known, signing };
      return authenticator
        .settings(tenant, facts)
        .then((settings) => ({ tenant, path, basePath, settings, signing }));
    };
    const admit = (): MaybePromise<Admitted> => {
      const routed = router.route(facts);
      return routed instanceof Promise ? routed.then(admitRouted) : admitRouted(routed);
    };
    const { method, query } = facts;
    return dispatcher.dispatch({ method, query, headers, body, signal, admit });
  };
}

function createDispatcher({ config, source, decisions, fleet, observe }: RequestHandlerDeps): Dispatcher {
  const pauses = new LockBackoff({ decisions });
  return new Dispatcher({
    fleet,
    known: (tenant) => decisions.known(tenant),
    decide: (tenant) => pauses.decide(tenant),
    verify: (decision) => pauses.verify(decision),
    invalidate: (decision, revisions) => {
      decisions.disprove(decision, revisions);
      source.outdate(decision.tenant);
    },
    refuse: (decision, error) => decisions.refuse(decision.spec, error),
    observe,
    patienceMs: patienceOf(config.limits.requestTimeoutMs),
  });
}
