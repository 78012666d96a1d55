/** Finds what is wrong with the role that a host connects as, for all tenants alike. */
import { z } from "zod";
import type { Together } from "../postgres/group.ts";
import { probeSettingsQuery } from "../shape/shape.ts";
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
select 'the connecting role ' || pg_catalog.quote_ident(self.rolname) || case
    when found.name = self.rolname then case when found.super
      then ' is a superuser: privileges and policies do not restrict it' else ' has BYPASSRLS: policies do not restrict it' end
    else ' is a member of ' || pg_catalog.quote_ident(found.name) || case
      when found.super then ', a superuser' when found.bypass then ', which has BYPASSRLS' else '' end
      || ': a function of any tenant could switch to it' end as said,
  found.name = self.rolname as itself
from found cross join self
order by 1`;

const row = z.object({ said: z.string(), itself: z.boolean() });

/** Returns one sentence per finding. Run it on a connection of the role that requests connect as. */
export async function connectingFindings({ together, roles }: ConnectingOptions): Promise<readonly string[]> {
  const ask = async (leftOut: readonly string[]): Promise<readonly z.infer<typeof row>[]> => {
    const [, found = []] = await together([
      { text: probeSettingsQuery(), prepared: true },
      { text, values: [leftOut], prepared: true },
    ]);
    return found.map((each) => row.parse(each));
  };
  const found = await ask([]);
  // Findings about the role itself do not depend on the tenants' roles.
  const leftOut = found.every(({ itself }) => itself) ? [] : await roles();
  return (leftOut.length === 0 ? found : await ask(leftOut)).map(({ said }) => said);
}
