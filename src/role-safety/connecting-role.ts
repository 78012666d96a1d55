/** Finds what is wrong with the role that a host connects as, for all tenants alike. */
import type { Together } from "../postgres/group.ts";
import { probeSettingsQuery } from "../shape/shape.ts";
import { answered, type Finding, type FindingCode, findingRows } from "./finding.ts";
import { predefined } from "./tenant-roles.ts";

export interface ConnectingOptions {
  readonly together: Together;
  /**
   * The roles of all tenants. Called only if the connecting role may become one that reaches further than it
   * should.
   */
  readonly roles: () => Promise<readonly string[]>;
}

/**
 * Searches from the few over-privileged roles down to their members, because the connecting role may be a
 * member of ten thousand tenant roles. Paths through a tenant's own role ($1) are left out except to
 * superusers: what such a role may do is reported for that tenant. If the connecting role is itself a
 * superuser or has BYPASSRLS, only that is reported.
 */
const text = `
with recursive
self as (select oid, rolname, rolsuper, rolbypassrls from pg_catalog.pg_roles where rolname = session_user),
down(name, super, bypass, oid) as (
  select rolname, rolsuper, rolbypassrls, oid from pg_catalog.pg_roles
  where rolsuper or rolbypassrls or rolname = any (${predefined})
  union
  select down.name, down.super, down.bypass, m.member from down
  join pg_catalog.pg_auth_members m on m.roleid = down.oid
  join pg_catalog.pg_roles r on r.oid = down.oid
  where down.super or r.rolname <> all ($1::text[])
),
found as (
  select down.* from down join self on self.oid = down.oid
  where down.name = self.rolname or not (self.rolsuper or self.rolbypassrls)
)
select case
    when found.name = self.rolname then case when found.super then 'CONNECTING_SUPERUSER' else 'CONNECTING_BYPASSRLS' end
    when found.super then 'CONNECTING_MAY_BE_SUPERUSER' when found.bypass then 'CONNECTING_MAY_BYPASS'
    else 'CONNECTING_PREDEFINED' end as code,
  pg_catalog.quote_ident(self.rolname) as role,
  case when found.name <> self.rolname then pg_catalog.quote_ident(found.name) end as object
from found cross join self`;

/** Those that do not depend on the tenants' roles. */
const ofItself: ReadonlySet<FindingCode> = new Set(["CONNECTING_SUPERUSER", "CONNECTING_BYPASSRLS"]);

/** Run it on a connection of the role that requests connect as. */
export async function connectingFindings({
  together,
  roles,
}: ConnectingOptions): Promise<readonly Finding[]> {
  const ask = async (leftOut: readonly string[]): Promise<readonly Finding[]> => {
    const [, found = []] = await together([
      { text: probeSettingsQuery(), prepared: true },
      { text, values: [leftOut], prepared: true },
    ]);
    return answered(findingRows, found);
  };
  const found = await ask([]);
  const leftOut = found.every(({ code }) => ofItself.has(code)) ? [] : await roles();
  return leftOut.length === 0 ? found : ask(leftOut);
}
