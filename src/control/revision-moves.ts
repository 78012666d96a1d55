/** Moves revisions in a managed migration, for changes that event triggers do not see or when there are none. */

import { z } from "zod";
import type { Queryable } from "../postgres/database.ts";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import type { Tenant } from "../tenants/tenant.ts";

interface Digest {
  /** Hash over the versions of the catalogue rows that determine what others can see of a schema. */
  readonly digest: string;
  /** Whether any of them is at least as new as this transaction: its own, or committed by another meanwhile. */
  readonly fresh: boolean;
}

/**
 * Moves the revisions of what the transaction has changed, at its end; `schemas` affect the shape before or
 * after it.
 */
export type MoveRevisions = (schemas: readonly string[]) => Promise<void>;

/**
 * Call it before the migration's SQL, and the returned function after it. The tenant's own schemas always
 * move. The other schemas of its shape (`before` the SQL, by name) move only if something in them changed,
 * because each of their tenants would have to be probed again. The earlier state of a schema that the SQL has
 * only begun to refer to is unknown: it moves if something in it is new.
 */
export async function watchRevisionMoves(
  transaction: Queryable,
  tenant: Tenant,
  before: Readonly<Record<string, string>>,
): Promise<MoveRevisions> {
  const served = new Set(physicalNames(tenant.schemas));
  const watched = new Set(Object.keys(before).filter((name) => !served.has(name)));
  const had = await digests(transaction, [...watched]);
  return async (schemas) => {
    const others = schemas.filter((name) => !served.has(name));
    const has = await digests(transaction, others);
    const changed = others.filter((name) =>
      watched.has(name) ? had.get(name)?.digest !== has.get(name)?.digest : has.get(name)?.fresh,
    );
    await touchServed(transaction, tenant, changed);
  };
}

/**
 * Moves the revisions of the tenant's own schemas, and of `more`, once the transaction's constraints are
 * checked.
 */
export async function touchServed(
  transaction: Queryable,
  tenant: Tenant,
  more: readonly string[] = [],
): Promise<void> {
  const served = physicalNames(tenant.schemas);
  await transaction.query("select rowhouse.touch_schemas($1)", [[...served, ...more]]);
}

const rowsSchema = z.array(z.object({ name: z.string(), digest: z.string(), fresh: z.boolean() }));

async function digests(
  transaction: Queryable,
  schemas: readonly string[],
): Promise<ReadonlyMap<string, Digest>> {
  if (schemas.length === 0) return new Map();
  const { rows } = await transaction.query(digestQuery, [schemas]);
  return new Map(rowsSchema.parse(rows).map(({ name, ...digest }) => [name, digest]));
}

/** Every change of a catalogue row gives it a new xmin; a dropped row is missing from the hash. */
const digestQuery = `
  with space as (
    select oid, nspname, xmin from pg_catalog.pg_namespace where nspname = any ($1::text[])
  ),
  class as (
    select c.oid, c.xmin, s.oid as space from pg_catalog.pg_class c join space s on s.oid = c.relnamespace
  ),
  object (space, classid, oid, xmin) as (
    select oid, 'pg_catalog.pg_namespace'::regclass, oid, xmin from space
    union all select space, 'pg_catalog.pg_class'::regclass, oid, xmin from class
    union all select typnamespace, 'pg_catalog.pg_type'::regclass, oid, xmin from pg_catalog.pg_type
      where typnamespace in (select oid from space)
    union all select pronamespace, 'pg_catalog.pg_proc'::regclass, oid, xmin from pg_catalog.pg_proc
      where pronamespace in (select oid from space)
    union all select oprnamespace, 'pg_catalog.pg_operator'::regclass, oid, xmin from pg_catalog.pg_operator
      where oprnamespace in (select oid from space)
    union all select connamespace, 'pg_catalog.pg_constraint'::regclass, oid, xmin from pg_catalog.pg_constraint
      where connamespace in (select oid from space)
  ),
  part (space, what, xmin) as (
    select space, concat_ws(' ', classid::oid, oid, xmin), xmin from object
    union all select o.space, concat_ws(' ', 'comment', d.classoid, d.objoid, d.objsubid, d.xmin), d.xmin
      from object o join pg_catalog.pg_description d on d.objoid = o.oid and d.classoid = o.classid
    union all select c.space, concat_ws(' ', 'column', a.attrelid, a.attnum, a.xmin), a.xmin
      from class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
    union all select c.space, concat_ws(' ', 'default', d.oid, d.xmin), d.xmin
      from class c join pg_catalog.pg_attrdef d on d.adrelid = c.oid
    union all select c.space, concat_ws(' ', 'index', i.indexrelid, i.xmin), i.xmin
      from class c join pg_catalog.pg_index i on i.indrelid = c.oid
    union all select c.space, concat_ws(' ', 'rule', r.oid, r.xmin), r.xmin
      from class c join pg_catalog.pg_rewrite r on r.ev_class = c.oid
    union all select c.space, concat_ws(' ', 'policy', p.oid, p.xmin), p.xmin
      from class c join pg_catalog.pg_policy p on p.polrelid = c.oid
    union all select c.space, concat_ws(' ', 'trigger', t.oid, t.xmin), t.xmin
      from class c join pg_catalog.pg_trigger t on t.tgrelid = c.oid
      -- Foreign-key triggers belong to the referring table and are no change of this one.
      where not t.tgisinternal
    union all select c.space, concat_ws(' ', 'parent', i.inhrelid, i.inhparent, i.xmin), i.xmin
      from class c join pg_catalog.pg_inherits i on i.inhrelid = c.oid
    union all select o.space, concat_ws(' ', 'label', e.oid, e.xmin), e.xmin
      from object o join pg_catalog.pg_enum e on e.enumtypid = o.oid
  )
  select s.nspname::text as name, md5(string_agg(part.what, ',' order by part.what)) as digest,
    bool_or(age(part.xmin) <= age(pg_current_xact_id()::xid)) as fresh
  from space s join part on part.space = s.oid group by 1`;
