/** Which pages may subscribe with credentials that the browser adds by itself. */
import { HostError } from "../../shared/kernel/errors.ts";
import type { RequestFacts } from "../../tenants/router.ts";

/**
 * Throws `CROSS_SITE` for a page of another site, if its browser has sent credentials and it is not among `origins`. Browsers let any
 * page open a WebSocket, or an event stream by GET, to any host, and add the credentials that they have for it.
 */
export function refuseForeign({ host, header }: RequestFacts, origins: readonly string[]): void {
  const origin = header("origin");
  if (origin === null || (header("authorization") === null && header("cookie") === null)) return;
  if (origins.includes(origin) || (URL.canParse(origin) && new URL(origin).host === host)) return;
  throw new HostError("CROSS_SITE");
}
