/** Tenants from a fixed list. */
import { ConfigError } from "../validation/config-error.ts";
import { type TenantSource, tenantClashes } from "./source.ts";
import type { Tenant } from "./tenant.ts";
import { tokenClashes } from "./token-conflicts.ts";

/** Throws `ConfigError` if two of `tenants` claim the same id or host, or one would accept another's tokens. */
export function listSource(tenants: readonly Tenant[]): TenantSource {
  const faults = [
    ...tenantClashes(tenants),
    ...tokenClashes(tenants.map((tenant, index) => ({ index, tenant }))),
  ];
  if (faults.length > 0) throw new ConfigError(faults);
  const ids = new Map<string, Tenant>(tenants.map((tenant) => [tenant.id, tenant]));
  const hosts = new Map(tenants.flatMap((tenant) => tenant.hosts.map((host) => [host, tenant])));
  return {
    byId: (id) => ids.get(id) ?? null,
    byHost: (host) => hosts.get(host) ?? null,
    resolve: null,
    outdate: () => {},
    list: async () => tenants,
    known: tenants.length,
    onChange: () => {},
    close: async () => {},
  };
}
