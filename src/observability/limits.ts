/** Which log lines are rate-limited, because a client, a tenant or an outage can cause any number of them, and by which key. */
import { unreachable } from "../shared/kernel/errors.ts";
import type { Observation } from "./observation.ts";

/** A burst per key, then one line a second: enough to see what is going on, and to find a request by its id. */
export const lineRate = { burst: 20, perSecond: 1, maxKeys: 10_000 } as const;

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
    case "database.lost":
      return `database.lost ${observation.database}`;
    case "host.error":
      return observation.fatal ? null : observation.kind;
    case "http.error":
    case "host.warning":
      return observation.kind;
    case "host.phase":
    case "host.config":
    case "host.plan":
    case "host.listening":
    case "control.installed":
    case "database.listening":
    case "database.pooled":
    case "database.unsafe":
    case "build.started":
    case "build.done":
    case "build.failed":
    case "cell.started":
    case "cell.condemned":
    case "cell.error":
    case "cell.terminated":
    case "instance.evicted":
    case "instance.measured":
    case "tenant.migrated":
    case "tenant.quarantined":
    case "tenant.released":
    case "look.failed":
    case "look.found":
    case "notices.read":
    case "schema.read":
    case "patch.state":
    case "log.dropped":
    case "request.done":
    case "guard.checked":
      return null;
    default:
      return unreachable(observation);
  }
}

/** Many lines with one reason must not suppress the first with another. */
const failureOf = ({ code, reason }: { readonly code: string; readonly reason?: string }): string =>
  reason === undefined ? code : `${code} (${reason})`;

/** The key, as summaries of dropped lines show it. */
const of = (tenant: string | undefined, what: string): string =>
  tenant === undefined ? what : `${what} of ${tenant}`;
