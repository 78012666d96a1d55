/**
 * The privileges that a role needs on the control schema, which of them are missing, and the SQL that grants
 * them.
 */

import { QuoteUtils } from "@pgsql/quotes";
import { z } from "zod";
import type { Database, Queryable } from "../postgres/database.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";

/**
 * A host serves tenants; a migrating role runs `rowhouse migrate`, or calls `rowhouse.touch_schemas` from
 * another tool; a tenant's role may publish.
 */
export type Purpose = "serve" | "migrate" | "publish";

export interface Right {
  readonly kind: "schema" | "table" | "function";
  /** Name within schema `rowhouse`; for a function with its argument types, because names can be overloaded. */
  readonly object: string;
  readonly privilege: string;
}

const usage: Right = { kind: "schema", object: "", privilege: "usage" };
const table = (object: string, privilege = "select"): Right => ({ kind: "table", object, privilege });
const call = (object: string): Right => ({ kind: "function", object, privilege: "execute" });

/** A host does not start without these. */
const guardRights: readonly Right[] = [
  usage,
  table("migration"),
  table("schema_revision"),
  call("tenant_lock_key(text)"),
  call("assert_revisions(text[], bigint[])"),
  call("await_migration(bigint)"),
  call("lock_holders(bigint)"),
];
const tenantRights = [table("tenant"), table("tenant_host")];
/** For hosts that poll for changes: one of them moves the revisions for all. */
const lookRights = [call("begin_look(interval)"), call("note_look(text[], bigint[])")];

/** For hosts with subscribers. */
const realtimeRights = [
  table("event"),
  table("realtime_host"),
  call("register_realtime(text, interval)"),
  call("unregister_realtime(text)"),
  call("sweep_events(pg_snapshot)"),
];

/** Everything that a role needs for a purpose. */
export const rightsOf: Readonly<Record<Purpose, readonly Right[]>> = {
  serve: [
    ...guardRights,
    ...tenantRights,
    ...lookRights,
    ...realtimeRights,
    call("begin_write(text, text[], bigint[])"),
  ],
  migrate: [
    usage,
    table("migration"),
    table("schema_revision"),
    ...["select", "insert", "update"].map((privilege) => table("applied", privilege)),
    call("lock_tenant(text)"),
    call("touch_schemas(text[])"),
    call("run_migration(text)"),
    call("watch(regclass)"),
    call("unwatch(regclass)"),
    call("note_change()"),
  ],
  publish: [usage, call("publish(text, text, text)")],
};

/** The privileges that a host requires, depending on what it uses in the database. */
export function neededRights(needs: {
  readonly tenants: boolean;
  readonly looks: boolean;
  readonly realtime?: boolean;
}): readonly Right[] {
  return [
    ...guardRights,
    ...(needs.tenants ? tenantRights : []),
    ...(needs.looks ? lookRights : []),
    ...(needs.realtime === true ? realtimeRights : []),
  ];
}

const held = z.array(z.object({ ord: z.int(), held: z.boolean() }));

/**
 * Those of `rights` that `role` has neither itself nor by inheritance; null: the connecting role. Objects
 * that an older control schema does not have are not reported.
 */
export async function missingRights(
  database: Queryable,
  rights: readonly Right[],
  role: string | null = null,
): Promise<readonly Right[]> {
  const { rows } = await database.query(
    `select asked.ord::int4 as ord, case asked.kind
        when 'schema' then has_schema_privilege(r.oid, n.oid, asked.privilege)
        when 'table' then coalesce((
          select has_table_privilege(r.oid, c.oid, asked.privilege) from pg_catalog.pg_class c
          where c.relnamespace = n.oid and c.relname = asked.object
        ), true)
        else coalesce((
          select has_function_privilege(r.oid, p.oid, asked.privilege) from pg_catalog.pg_proc p
          where p.pronamespace = n.oid
            and p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' = asked.object
        ), true)
      end as held
    from pg_catalog.pg_namespace n
    join pg_catalog.pg_roles r on r.rolname = coalesce($4, current_user)
    cross join unnest($1::text[], $2::text[], $3::text[]) with ordinality as asked (kind, object, privilege, ord)
    where n.nspname = 'rowhouse' order by 1`,
    [
      rights.map(({ kind }) => kind),
      rights.map(({ object }) => object),
      rights.map(({ privilege }) => privilege),
      role,
    ],
  );
  const missing = new Set(held.parse(rows).flatMap((row) => (row.held ? [] : [row.ord])));
  return rights.filter((_, index) => missing.has(index + 1));
}

/** `rights` as statements that grant them to `role`. */
export function grantSql(rights: readonly Right[], role: string): string {
  const to = QuoteUtils.quoteIdentifier(role);
  const groups = Map.groupBy(rights, ({ kind, privilege }) => `${privilege} on ${kind}`);
  return [...groups]
    .map(([what, group]) => `grant ${what} ${group.map(placeOf).join(", ")} to ${to};`)
    .join(" ");
}

/**
 * `rights` in words: `read rowhouse.migration, call rowhouse.tenant_lock_key`. Without access to the schema
 * the rest is useless, so only that is named.
 */
export function rightsText(rights: readonly Right[]): string {
  return (rights.includes(usage) ? [usage] : rights)
    .map((right) => {
      if (right.kind === "schema") return "read schema rowhouse";
      const verb = { select: "read", execute: "call" }[right.privilege] ?? right.privilege;
      return `${verb} ${placeOf(right).replace(/\(.*/, "")}`;
    })
    .join(", ");
}

const placeOf = ({ kind, object }: Right): string => (kind === "schema" ? "rowhouse" : `rowhouse.${object}`);

export interface Granted {
  /** Null: the role does not exist. */
  readonly given: readonly Right[] | null;
  /** What the role still lacks, because the connecting role may not grant it. */
  readonly lacking: readonly Right[];
}

/** Grants `role` what it lacks for `purpose`, as far as the connecting role may. */
export async function grantRights(
  database: Pick<Database, "query" | "transaction">,
  role: string,
  purpose: Purpose,
): Promise<Granted> {
  const { rows } = await database.query("select from pg_catalog.pg_roles where rolname = $1", [role]);
  if (rows.length === 0) return { given: null, lacking: [] };
  const rights = rightsOf[purpose];
  const before = await missingRights(database, rights, role);
  if (before.length === 0) return { given: [], lacking: [] };
  try {
    await database.transaction((transaction) => transaction.execute(grantSql(before, role)));
  } catch (error) {
    if (!hasState(error, "insufficient_privilege")) throw error;
  }
  // If the role has some other grant option, PostgreSQL only warns instead of failing.
  const lacking = await missingRights(database, rights, role);
  return { given: before.filter((right) => !lacking.includes(right)), lacking };
}

/**
 * SQL: the privileges that the control schema's installer keeps when another role takes it over: to serve, to
 * migrate and to register tenants.
 */
export function formerOwnerSql(role: string): string {
  const registers = ["insert", "update", "delete"].map((privilege) => table("tenant", privilege));
  return grantSql([...rightsOf.serve, ...rightsOf.migrate, ...registers, table("applied", "delete")], role);
}
