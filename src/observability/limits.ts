/** Which log lines are rate-limited, because a client, a tenant or an outage can cause any number of them, and by which key. */
import type { Observation } from "./observation.ts";

/** A burst per key, then one line a second: enough to see what is going on, and to find a request by its id. */
export const lineRate = { burst: 20, perSecond: 1, maxKeys: 10_000 } as const;

/** What the host reports of its own doing, at its own pace, or does not log. */
type Unlimited =
  | "host.phase"
  | "host.config"
  | "host.plan"
  | "host.listening"
  | "connections.renewed"
  | "control.installed"
  | "database.listening"
  | "database.pooled"
  | "database.statements"
  | "database.unsafe"
  | "build.started"
  | "build.done"
  | "build.failed"
  | "cell.started"
  | "cell.condemned"
  | "cell.error"
  | "cell.terminated"
  | "instance.evicted"
  | "instance.measured"
  | "tenant.migrated"
  | "tenant.quarantined"
  | "tenant.released"
  | "look.failed"
  | "look.found"
  | "notices.read"
  | "schema.read"
  | "patch.state"
  | "realtime.polled"
  | "realtime.run"
  | "realtime.closed"
  | "log.dropped"
  | "request.done"
  | "guard.checked";
const unlimited = (_: { readonly kind: Unlimited }): null => null;

/**
 * The key of the limit for the line of `observation`; null if there is no limit, because the line reports something that the host does by
 * itself. The key names a tenant only if it is known to exist: invented names share one limit, or they would displace all others.
 */
export function limitKey(observation: Observation): string | null {
  switch (observation.kind) {
    case "request.failed":
      return of(observation.tenant, `request.failed ${failureOf(observation)}`);
    case "request.retried":
      return of(observation.tenant, `request.retried ${observation.reason}`);
    case "tenant.decided":
    case "tenant.unsafe":
    case "guard.failed":
    case "guard.exhausted":
      return of(observation.tenant, observation.kind);
    case "tenant.changed":
      return of(observation.tenant ?? undefined, `tenant.changed ${observation.cause}`);
    case "cell.log":
      return of(observation.tenant, `cell.log ${observation.level}`);
    case "admin.refused":
      return `admin.refused ${observation.code}`;
    case "config.warning":
      return `config.warning ${observation.path.slice(0, 200)}`;
    case "realtime.failing":
      return `realtime.failing ${observation.database}`;
    case "realtime.gap":
      return `realtime.gap ${observation.database}`;
    case "database.lost":
      return `database.lost ${observation.database}`;
    case "host.error":
      return observation.fatal ? null : observation.kind;
    case "http.error":
    case "host.warning":
      return observation.kind;
    default:
      return unlimited(observation);
  }
}

/** Many lines with one reason must not suppress the first with another. */
const failureOf = ({ code, reason }: { readonly code: string; readonly reason?: string }): string =>
  reason === undefined ? code : `${code} (${reason})`;

/** The key, as summaries of dropped lines show it. */
const of = (tenant: string | undefined, what: string): string =>
  tenant === undefined ? what : `${what} of ${tenant}`;
