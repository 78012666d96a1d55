/** Detects tenants that would accept each other's tokens. */

import { parseTenantId, type TenantId } from "../shared/kernel/ids.ts";
import { ConfigError, type Fault } from "../validation/config-error.ts";
import type { JwtRules } from "./jwt-config.ts";
import { parseTenant, type Tenant, type TenantDefaults } from "./tenant.ts";

/**
 * The only tenant that an audience can name: its id, or a URN or URL path that ends with it. A URL without a
 * path (`https://api.example`) names no tenant, nor does one that ends with a slash.
 */
function namedBy(audience: string): TenantId | undefined {
  if (/^[a-z][a-z0-9+.-]*:\/\/[^/]*$/i.test(audience)) return undefined;
  return parseTenantId(audience.split(/[/:]/).at(-1) ?? "");
}

/**
 * Whether every token that the tenant accepts names it and no other, so that the rules of other tenants need
 * not be known: each audience is its name or, if a claim holds its id, names no tenant.
 */
function namesTenant(id: TenantId, { tenantClaim, audience }: JwtRules): boolean {
  return audience.every((each) => {
    const named = namedBy(each);
    return named === undefined ? tenantClaim !== null : named === id;
  });
}

const disjoint = (some: readonly string[], others: readonly string[]): boolean =>
  !some.some((each) => others.includes(each));

/**
 * Whether the two have no key in common. For two JWKS, or a JWKS and a public key, that cannot be known:
 * their keys change.
 */
function keysDiffer(one: JwtRules, other: JwtRules): boolean {
  const [a, b] = [one.key, other.key];
  if (a.kind === "secret" || b.kind === "secret") {
    return a.kind !== "secret" || b.kind !== "secret" || a.secret !== b.secret;
  }
  return a.kind === "publicKey" && b.kind === "publicKey" && a.pem !== b.pem;
}

/** Whether every token that `one` accepts is rejected by `other`, whatever other audiences it names. */
function toldApart(one: JwtRules, other: JwtRules): boolean {
  if (keysDiffer(one, other) || disjoint(one.audience, other.audience)) return true;
  return one.issuer.length > 0 && other.issuer.length > 0 && disjoint(one.issuer, other.issuer);
}

/**
 * Finds those of `tenants` (which must be all there are) that would accept tokens of others; each fault has
 * its path.
 */
export function tokenClashes(
  tenants: readonly { readonly index: number; readonly tenant: Tenant }[],
): Fault[] {
  const faults: Fault[] = [];
  const functions = new Map<string, string>();
  const issuing = tenants.flatMap(({ index, tenant: { id, jwt } }) =>
    jwt === null ? [] : [{ index, id, jwt }],
  );
  for (const { index, id, jwt } of issuing) {
    if (jwt.tenantClaim !== null) continue;
    const other = issuing.find((each) => each.id !== id && !toldApart(each.jwt, jwt));
    if (other === undefined) continue;
    const message = `${id} would accept tokens of ${other.id}, which may share its key: omit the audience, or set tenantClaim`;
    faults.push({ path: `tenants[${index}].jwt.audience`, message });
  }
  for (const { index, tenant } of tenants) {
    const { id, database, session } = tenant;
    if (session === null || !session.own) continue;
    const key = JSON.stringify([database, session.schema, session.function]);
    const owner = functions.get(key);
    if (owner === undefined) functions.set(key, id);
    else {
      const message = `tenants ${owner} and ${id} use the same session function and would accept each other's sessions`;
      faults.push({ path: `tenants[${index}].session.function`, message });
    }
  }
  return faults;
}

/**
 * Like `parseTenant`, for a tenant whose fellow tenants are never known all at once: every token it accepts
 * has to name it.
 */
export function parseLoneTenant(value: unknown, defaults: TenantDefaults): Tenant {
  const tenant = parseTenant(value, defaults);
  if (tenant.jwt === null || namesTenant(tenant.id, tenant.jwt)) return tenant;
  const message = `must name the tenant (${tenant.id}, or end with /${tenant.id} or :${tenant.id}), or, with a tenantClaim, no tenant (https://api.example): other tenants may share the key`;
  throw new ConfigError([{ path: "jwt.audience", message }]);
}
