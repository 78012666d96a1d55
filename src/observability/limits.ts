/** Which log lines a client, a tenant or an outage can cause without end, and what they are counted by. */
import type { Observation } from "./observation.ts";

/** So many at once of a kind, and then one a second: enough to see what goes on, and to find a request by its id. */
export const lineRate = { burst: 20, perSecond: 1, maxKeys: 10_000 } as const;

/**
 * What the line of `observation` shares its limit with; null where it has none, as it comes once for something that the host itself does.
 * A tenant is named only where it is known to exist: made-up names share one limit, or they would push out all others.
 */
export function limitKey(observation: Observation): string | null {
  switch (observation.kind) {
    case "request.failed": {
      // Many of one reason must not leave out the first of another.
      const { tenant, code, reason } = observation;
      return of(tenant, `request.failed ${code}${reason === undefined ? "" : ` (${reason})`}`);
    }
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
    default:
      return null;
  }
}

/** As it is shown where lines of it were left out. */
const of = (tenant: string | undefined, what: string): string =>
  tenant === undefined ? what : `${what} of ${tenant}`;
