/**
 * The shape of a tenant: a hash of everything that a build can see in its schemas, computed by PostgreSQL in
 * one statement.
 */
import { z } from "zod";
import { HostError } from "../shared/kernel/errors.ts";
import { type ShapeHash, shapeHash } from "../shared/kernel/ids.ts";
import { physicalNames, type SchemaBinding } from "../shared/model/blueprint-spec.ts";
import { scopeCtes } from "../shared/postgres/catalogue-scope.ts";
import { lifted } from "../shared/postgres/pooler.ts";
import { canonicalCtes } from "./canonical.ts";
import { namedCtes } from "./canonical-grants.ts";
import { type EnumFault, enumCtes, enumFaultCtes, enumFaults } from "./enum-tables.ts";
import { hiddenCtes } from "./hidden-objects.ts";
import { labelCtes } from "./labels.ts";
import { notifierCtes } from "./notifiers.ts";
import { probePlanning } from "./planner-settings.ts";
import { preparingFunctionCtes } from "./preparing-functions.ts";
import { provenCtes } from "./proven.ts";

export interface ShapeInput {
  readonly schemas: readonly SchemaBinding[];
  readonly sharedSchemas: readonly string[];
  readonly roles: {
    readonly anonymous: string | null;
    readonly authenticated: string | null;
    readonly others?: readonly string[];
  };
}

export interface ShapeOptions {
  /** Whether the database has the control schema; without it no revisions are read. */
  readonly revisions?: boolean;
  /** Also return the text that is hashed, for people to read and compare. */
  readonly canonicalText?: boolean;
}

/** A hidden object that may well be no part of the API, which a build has to prove. */
export interface Dispensable {
  /** Such as `table`, `type`, `function`. */
  readonly kind: string;
  readonly oid: string;
  /** By physical name. */
  readonly schema: string;
  readonly name: string;
  /** Types of a function's arguments, in which a served schema goes by its logical name; empty for anything else. */
  readonly arguments: string;
  /** What its bare name finds instead; null: nothing. */
  readonly finds: string | null;
}

export interface ShapeProbe {
  readonly shape: ShapeHash;
  /** The shape without what no build of the known plugins reads (`workers/instance/known-plugins.ts`). */
  readonly core: ShapeHash;
  /** Physical names of served schemas that do not exist. */
  readonly missing: readonly string[];
  /**
   * Objects that their unqualified names do not find, such as `table acme.pg_class`, by physical name and
   * sorted.
   */
  readonly hidden: readonly string[];
  /** For each of `hidden`, what the name finds instead; null: nothing. */
  readonly found: readonly (string | null)[];
  /** For each of these whether the API may need it; not where its smart tags, say, ask that it be left out. */
  readonly needed: readonly boolean[];
  /** Those that it may not need. */
  readonly dispensable: readonly Dispensable[];
  /** Smart tags that name a served schema as the database does: such as `relation app.orders: @foreignKey (a) references acme.b`. */
  readonly named: readonly string[];
  /** Number of queries for rows that a build of this shape sends (`@enum`). */
  readonly enumTables: number;
  /** Whether a function of the path's schemas could prepare a statement in its session. */
  readonly prepares: boolean;
  /** Whether a function of the path's schemas could NOTIFY in a read. */
  readonly notifies: boolean;
  /** Tables from which no enum can be built, and why. */
  readonly enumFaults: readonly EnumFault[];
  /** By physical name, for every schema that affects the shape (`proven.ts`); `"0"` if none was recorded. */
  readonly revisions: Readonly<Record<string, string>>;
  /** Null unless it was requested. */
  readonly canonicalText: string | null;
  /** The text of `core`, likewise. */
  readonly coreText: string | null;
}

/**
 * Settings for the transaction of a probe. An operator in any schema of the path that fits better than
 * PostgreSQL's own (it has no `oid = regclass`) would be chosen, and run as the connecting role: `public` is
 * in the path by default, and tenants who may create objects there could add one. With JIT a probe takes 30
 * times as long.
 */
const settings: Readonly<Record<string, string>> = {
  jit: "off",
  search_path: "pg_catalog, pg_temp",
  ...probePlanning,
};
const entries = Object.entries(settings);

/** The settings as statements for an open transaction. */
export const probeSettings = entries.map(([name, value]) => `set local ${name} = ${value}`).join("; ");

/**
 * Overrides the role's or database's timeout. It expires before the host abandons the connection
 * (`src/postgres/database.ts`).
 */
const statementTimeoutMs = 50_000;

/**
 * The settings as the first statement of a transaction, which becomes read-only and uses generic plans, with
 * `more` settings.
 */
export function probeSettingsQuery(more: Readonly<Record<string, string>> = {}): string {
  const calls = Object.entries({
    transaction_read_only: "on",
    plan_cache_mode: "force_generic_plan",
    statement_timeout: String(statementTimeoutMs),
    ...settings,
    ...more,
  }).map(([name, value]) => `pg_catalog.set_config('${name}', '${value}', true)`);
  return `select ${[...calls, lifted("transaction_timeout", "transaction")].join(", ")}`;
}

/** Undoes `probeSettings` if the transaction goes on after the probe. */
export const probeSettingsOver = entries.map(([name]) => `set local ${name} to default`).join("; ");

const revisionOf = (name: string): string =>
  `coalesce((select revision from rowhouse.schema_revision where schema_name = ${name}), 0)::text`;

function probeText({ revisions = false, canonicalText = false }: ShapeOptions): string {
  return `\
with recursive
${scopeCtes},
${labelCtes},
${enumCtes},
${enumFaultCtes},
${hiddenCtes},
${preparingFunctionCtes},
${notifierCtes},
${provenCtes},
${namedCtes},
${canonicalCtes},
named_hidden(object, finds, needed) as (select kind || ' ' || name, finds, needed from hidden)
select
  pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(canonical.text, 'UTF8')), 'hex') as shape,
  pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(canonical.core, 'UTF8')), 'hex') as core,
  ${canonicalText ? "canonical.text" : "null::text"} as canonical,
  ${canonicalText ? "canonical.core" : "null::text"} as canonical_core,
  array(
    select binding.physical from pg_catalog.unnest($1::text[]) with ordinality as binding(physical, ord)
    where binding.ord not in (select ord from served)
    order by binding.ord
  ) as missing,
  array(
    select object from named_hidden order by object collate "C", finds
  ) as hidden,
  array(
    select finds from named_hidden order by object collate "C", finds
  ) as found,
  array(
    select needed from named_hidden order by object collate "C", finds
  ) as needed,
  (
    select coalesce(pg_catalog.json_agg(
      pg_catalog.json_build_array(kind, oid::text, schema, bare, arguments, finds) order by name collate "C", kind
    ), '[]') from hidden where not needed
  ) as dispensable,
  array(
    select distinct said collate "C" from (select object || ': ' || tag as said from named) tags order by 1
  ) as named,
  -- For a table that it may not read, PostGraphile runs a second query for the role that it tried.
  (select coalesce(pg_catalog.sum(case when readable then 1 else 2 end), 0)::int4 from enum_table) as enum_tables,
  (select able from preparing) as prepares,
  (select able from notifying) as notifies,
  (
    select coalesce(pg_catalog.json_agg(
      pg_catalog.json_build_array(source, columns, readable) order by source collate "C"
    ), '[]') from enum_fault
  ) as enum_faults,
  (
    select coalesce(pg_catalog.json_agg(
      pg_catalog.json_build_array(name, ${revisions ? revisionOf("name") : "'0'::text"}) order by name collate "C"
    ), '[]') from proven
  ) as revisions
from canonical`;
}

/**
 * One statement, one snapshot: shape hash, missing schemas, hidden objects, revisions. Two tenants have the
 * same hash exactly if a build can tell them apart only by their schemas' physical names: everything else
 * that it can see is in the hash, including the rows of enum tables, as the connecting role or else the
 * tenant's own see them, and the connecting role's privileges.
 *
 * Run it as the role that builds connect as, after `probeSettings`.
 */
export function shapeQuery(
  input: ShapeInput,
  options: ShapeOptions = {},
): { text: string; values: unknown[] } {
  const physical = physicalNames(input.schemas);
  return {
    text: probeText(options),
    values: [
      physical,
      input.schemas.map((schema) => schema.logical),
      input.sharedSchemas,
      input.roles.anonymous,
      input.roles.authenticated,
      input.roles.others ?? [],
    ],
  };
}

const probeRow = z.object({
  shape: z.string(),
  core: z.string(),
  canonical: z.string().nullable(),
  canonical_core: z.string().nullable(),
  missing: z.array(z.string()),
  hidden: z.array(z.string()),
  found: z.array(z.string().nullable()),
  needed: z.array(z.boolean()),
  dispensable: z.array(
    z
      .tuple([z.string(), z.string(), z.string(), z.string(), z.string(), z.string().nullable()])
      .transform(([kind, oid, schema, name, args, finds]) => ({
        kind,
        oid,
        schema,
        name,
        arguments: args,
        finds,
      })),
  ),
  named: z.array(z.string()),
  enum_tables: z.int().nonnegative(),
  prepares: z.boolean(),
  notifies: z.boolean(),
  enum_faults: enumFaults,
  // Pairs, because as an object key "__proto__" would be lost.
  revisions: z.array(z.tuple([z.string(), z.string()])),
});

/** Parses the row that `shapeQuery` returns; throws `INTERNAL` for anything else. */
export function parseShape(row: unknown): ShapeProbe {
  const parsed = probeRow.safeParse(row);
  if (!parsed.success) {
    throw new HostError("INTERNAL", "the shape query returned an unexpected result", { cause: parsed.error });
  }
  const {
    shape,
    core,
    canonical,
    canonical_core: coreText,
    enum_tables: enumTables,
    enum_faults: enumFaults,
    revisions,
    ...rest
  } = parsed.data;
  return {
    ...rest,
    shape: shapeHash(shape),
    core: shapeHash(core),
    enumTables,
    enumFaults,
    revisions: Object.fromEntries(revisions),
    canonicalText: canonical,
    coreText,
  };
}
