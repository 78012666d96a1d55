/** Which log lines a client, a tenant or an outage can cause without end, and what they are counted by. */
import type { Observation } from "../kernel/observation.ts";

/** So many at once of a kind, and then one a second: enough to see what goes on, and to find a request by its id. */
export const lineRate = { burst: 20, perSecond: 1, mostKeys: 10_000 } as const;

/**
 * What the line of `observation` shares its limit with; null where it has none, as it comes once for something that the host itself does.
 * A tenant is named only where it is known to exist: made-up names share one limit, or they would push out all others.
 */
export function limitKey(observation: Observation): string | null {
  switch (observation.kind) {
    case "request.failed":
      return key(observation.tenant, observation.kind, observation.code);
    case "request.retried":
      return key(observation.tenant, observation.kind, observation.reason);
    case "tenant.decided":
    case "tenant.unsafe":
    case "guard.failed":
    case "guard.exhausted":
      return key(observation.tenant, observation.kind);
    case "tenant.changed":
      return key(observation.tenant ?? undefined, observation.kind, observation.cause);
    case "admin.refused":
      return key(undefined, observation.kind, observation.code);
    case "cell.log":
      return key(observation.tenant, observation.kind, observation.level);
    case "config.warning":
      return key(undefined, observation.kind, observation.path.slice(0, 200));
    case "database.lost":
      return key(undefined, observation.kind, observation.database);
    case "host.error":
      return observation.fatal ? null : observation.kind;
    case "http.error":
    case "host.warning":
      return observation.kind;
    default:
      return null;
  }
}

/** As it is shown where lines of it were left out. */
const key = (tenant: string | undefined, ...words: readonly string[]): string =>
  tenant === undefined ? words.join(" ") : `${words.join(" ")} of ${tenant}`;
