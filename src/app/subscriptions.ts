/** What subscriptions need of the other parts: the request handler to run them, and a poller of events for each database. */
import { hash } from "node:crypto";
import type { Authenticator } from "../auth/authenticator.ts";
import type { Databases } from "../control/databases.ts";
import type { Admitted } from "../dispatch/dispatcher.ts";
import type { ClientBacklog } from "../http/client-backlog.ts";
import { StreamRoom } from "../http/public/stream-room.ts";
import type { Subscriptions } from "../http/public/subscriptions.ts";
import { EventPoller } from "../realtime/event-poller.ts";
import type { Holding } from "../realtime/event-subscription.ts";
import { type Identity, LiveQueries, type Operation } from "../realtime/live-queries.ts";
import { liveResult } from "../realtime/live-result.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { pathSchemas, physicalNames } from "../shared/model/blueprint-spec.ts";
import { eventsHeader } from "../shared/protocol/events.ts";
import { type Answer, liveHeader, liveQueriesOnly } from "../shared/protocol/messages.ts";
import { createRouter } from "../tenants/router.ts";
import type { TenantSource } from "../tenants/source.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { HostContext } from "./context.ts";
import { createAdmission, type HandledRequest } from "./request-handler.ts";

export interface SubscriptionParts {
  readonly databases: Databases;
  readonly handle: (request: HandledRequest) => Promise<Answer>;
  readonly source: TenantSource;
  readonly authenticator: Authenticator;
  readonly backlog: ClientBacklog;
}

/** Null if the config has none. */
export function openSubscriptions(
  { config, applicationName, observe, started }: HostContext,
  { databases, handle, source, authenticator, backlog }: SubscriptionParts,
): Subscriptions | null {
  const { realtime, limits } = config;
  if (realtime === null) return null;
  const admission = createAdmission({ config, source, authenticator });
  const router = createRouter(config.routing, source);
  const pollers = new Map<string, EventPoller>();
  const poller = (name: string): EventPoller => {
    const { database } = databases.get(name);
    const known =
      pollers.get(name) ?? new EventPoller({ ...realtime, database, host: applicationName, observe });
    pollers.set(name, known);
    return known;
  };
  started.add(() => Promise.all([...pollers.values()].map((each) => each.close())));
  const { requestTimeoutMs } = limits;
  const hold = (tenant: TenantId): Holding => backlog.wait(`tenant ${tenant}`);
  const queries = new LiveQueries({ ...realtime, poller, requestTimeoutMs, observe, hold });
  const room = new StreamRoom(realtime);
  return {
    ...realtime,
    room,
    requestTimeoutMs,
    counts: () => ({ ...queries.counts, connections: room.counts }),
    subscribe: (operation, sink) => queries.subscribe(operation, sink),
    drain: () => queries.drain(),
    admit: async (facts, anonymously) => {
      if (!anonymously) return served((await admission(facts, ignore)).tenant).id;
      const routed = await router.route(facts);
      if (routed === null) throw new HostError("TENANT_UNKNOWN");
      return served(routed.tenant).id;
    },
    async open({ requestId, facts: received, headers: given, body, queriesOnly = false }) {
      // A WebSocket begins with a GET.
      const facts = { ...received, method: "POST" };
      const live = { [liveHeader]: queriesOnly ? liveQueriesOnly : "1" };
      const headers = { ...given, accept, "content-type": "application/json", ...live };
      // Once for all of its runs: a body may have a megabyte.
      const asked = digestOf([facts.query, headers, body]);
      const identify = async (): Promise<Identity> => {
        const admitted = await admission(facts, ignore);
        served(admitted.tenant);
        return identityOf(admitted, asked);
      };
      const identity = await identify();
      const run: Operation["run"] = async (signal, events) => {
        let key: string | undefined;
        const admitted = (as: Admitted): void => {
          key = identityOf(as, asked).key;
        };
        const given = { ...headers, [eventsHeader]: JSON.stringify(events) };
        const request = { requestId, facts, headers: given, body, signal, routed: ignore, admitted };
        return { ...liveResult(await handle(request)), servedAs: key };
      };
      return { identity, identify, run };
    },
  };
}

/** Throws `BAD_REQUEST` if the tenant has no subscriptions. */
function served(tenant: Tenant): Tenant {
  if (tenant.realtime) return tenant;
  throw new HostError("BAD_REQUEST", "This tenant has no subscriptions.");
}

/** Answers with 400 what is refused before it runs. */
const accept = "application/graphql-response+json";

const digestOf = (facts: readonly unknown[]): string => hash("sha256", JSON.stringify(facts), "base64url");

/**
 * Nothing that an answer may depend on is left out: neither the lifetime of a token, nor, in `asked`, a header or the query string of the
 * URL.
 */
function identityOf({ tenant, settings, path, basePath, signing }: Admitted, asked: string): Identity {
  const { id, database, schemas, sharedSchemas, api, mode } = tenant;
  const key = digestOf([
    id,
    database,
    schemas,
    sharedSchemas,
    [api, mode, tenant.settings],
    settings,
    signing,
    [path, basePath],
    asked,
  ]);
  return { tenant: id, database, schemas: pathSchemas(tenant), ownSchemas: physicalNames(schemas), key };
}

function ignore(): void {}
