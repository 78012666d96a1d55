/** What a request may do in PostgreSQL: the settings of its transactions. */
import { HostError } from "../kernel/errors.ts";
import type { RequestFacts } from "../tenant/route.ts";
import type { Tenant } from "../tenant/tenant.ts";

/**
 * The settings of a request's transactions, `role` first among them; without a role it runs as the connecting one.
 * Rejects with `TOKEN_INVALID` for a request that brings credentials: whoever sends a token means to be somebody,
 * and must not be served as nobody.
 */
export async function requestSettings(tenant: Tenant, facts: RequestFacts): Promise<Record<string, string>> {
  if (facts.header("authorization") !== null) {
    throw new HostError("TOKEN_INVALID", `tenant ${tenant.id} accepts no tokens`);
  }
  const { anonymous } = tenant.roles;
  return anonymous === null ? {} : { role: anonymous };
}
