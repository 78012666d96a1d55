/** The proof that what a pooled instance leaves out is no part of its API: the schema is built once more without it, and must be the same. */

import {
  type GraphQLSchema,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
  lexicographicSortSchema,
  printSchema,
  printType,
} from "postgraphile/graphql";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { BlueprintSpec, LeftOutObject } from "../../src/shared/model/blueprint-spec.ts";
import { calledName } from "../postgres/schema-placeholders.ts";

type Row = Readonly<Record<string, unknown>>;

/** What a set of removed objects is, by oid in the catalogue of each kind. */
type Gone = Readonly<Record<LeftOutObject["kind"], Set<string>>>;

const catalogues = { relation: "classes", type: "types", function: "procs" } as const;
const nameColumns = { relation: "relname", type: "typname", function: "proname" } as const;
const namespaceColumns = {
  relation: "relnamespace",
  type: "typnamespace",
  function: "pronamespace",
} as const;
const kinds = ["relation", "type", "function"] as const;

/**
 * The introspection without what is left out and all that cannot be without it: relations with a column of such a type, functions that take or
 * return one, and so on. If any of that is in the API, the proof fails. Throws `SCHEMA_CHANGED` where something is not there any more, and
 * `BUILD_NOT_SHAREABLE` where something that stays has the same name: its SQL would be taken for the other's.
 */
export function withoutLeftOut(introspection: string, { schemas, leftOut }: BlueprintSpec): string {
  const parsed: unknown = JSON.parse(introspection);
  if (typeof parsed !== "object" || parsed === null) {
    throw new HostError("BUILD_FAILED", "the introspection result is not an object");
  }
  const rows = (name: string): readonly Row[] => rowsIn(parsed, name);
  const namespaces = new Map(rows("namespaces").map((row) => [row["_id"], row["nspname"]]));
  const gone: Gone = { relation: new Set(), type: new Set(), function: new Set() };
  for (const { kind, oid, schema, name } of leftOut) {
    const found = rows(catalogues[kind]).find((row) => row["_id"] === oid);
    const namespace = namespaces.get(found?.[namespaceColumns[kind]]);
    if (found?.[nameColumns[kind]] !== name || namespace !== calledName(schema, schemas)) {
      throw new HostError("SCHEMA_CHANGED", `${kind} ${schema}.${name} no longer exists`);
    }
    gone[kind].add(oid);
  }
  spread(gone, rows);
  for (const { schema, name, reason } of leftOut) {
    const called = calledName(schema, schemas);
    const other = kinds.some((kind) =>
      rows(catalogues[kind]).some(
        (row) =>
          row[nameColumns[kind]] === name &&
          namespaces.get(row[namespaceColumns[kind]]) === called &&
          !gone[kind].has(String(row["_id"])),
      ),
    );
    if (other) throw notShareable(`${reason}; another object in its schema has the same name`);
  }
  return JSON.stringify({ ...parsed, ...remaining(gone, rows) });
}

function rowsIn(parsed: object, name: string): readonly Row[] {
  const rows: unknown = Reflect.get(parsed, name);
  return Array.isArray(rows) ? rows : [];
}

/** An oidvector may be written as text. */
function oidsOf(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === "string" ? value.split(" ") : [];
}

/** Adds to `gone` whatever cannot be without something in it, until there is nothing more. */
function spread(gone: Gone, rows: (name: string) => readonly Row[]): void {
  const { relation, type } = gone;
  const count = (): number => relation.size + type.size + gone.function.size;
  const isGone = (row: Row, ...columns: readonly string[]): boolean =>
    columns.some((column) => oidsOf(row[column]).some((oid) => type.has(oid)));
  for (let before = -1; before !== count(); ) {
    before = count();
    for (const row of rows("types")) {
      const [oid, relationOid] = [String(row["_id"]), String(row["typrelid"])];
      if (isGone(row, "typelem", "typbasetype") || relation.has(relationOid)) type.add(oid);
      if (type.has(oid) && relationOid !== "0") relation.add(relationOid);
    }
    for (const row of rows("ranges")) {
      if (!isGone(row, "rngsubtype", "rngtypid")) continue;
      for (const oid of [row["rngtypid"], row["rngmultitypid"]]) if (typeof oid === "string") type.add(oid);
    }
    for (const row of rows("attributes")) if (isGone(row, "atttypid")) relation.add(String(row["attrelid"]));
    for (const row of rows("classes"))
      if (isGone(row, "reltype", "reloftype")) relation.add(String(row["_id"]));
    for (const row of rows("indexes")) {
      if (relation.has(String(row["indrelid"]))) relation.add(String(row["indexrelid"]));
    }
    for (const row of rows("procs")) {
      if (isGone(row, "prorettype", "provariadic", "proargtypes", "proallargtypes")) {
        gone.function.add(String(row["_id"]));
      }
    }
  }
}

function remaining(gone: Gone, rows: (name: string) => readonly Row[]): Record<string, readonly Row[]> {
  const keep = (name: string, kind: keyof Gone, ...columns: readonly string[]): readonly Row[] =>
    rows(name).filter((row) => columns.every((column) => !gone[kind].has(String(row[column]))));
  return {
    classes: keep("classes", "relation", "_id"),
    attributes: keep("attributes", "relation", "attrelid"),
    constraints: keep("constraints", "relation", "conrelid", "confrelid").filter(
      (row) => !gone.type.has(String(row["contypid"])),
    ),
    indexes: keep("indexes", "relation", "indrelid"),
    inherits: keep("inherits", "relation", "inhrelid", "inhparent"),
    policies: keep("policies", "relation", "polrelid"),
    types: keep("types", "type", "_id"),
    enums: keep("enums", "type", "enumtypid"),
    ranges: keep("ranges", "type", "rngtypid"),
    procs: keep("procs", "function", "_id"),
  };
}

/** The error that has the tenants of `spec` served by instances of their own, for what it leaves out and for what `why` says. */
export function keptIn({ leftOut }: Pick<BlueprintSpec, "leftOut">, why: string): HostError {
  return notShareable(`${leftOut.map(({ reason }) => reason).join("; ")}; ${why}`);
}

const notShareable = (reason: string): HostError => new HostError("BUILD_NOT_SHAREABLE", reason);

const cure =
  "@behavior -* leaves an object out unless a plugin of the preset brings it back; @omit needs PgV4SmartTagsPlugin, which PostGraphile's V4 preset has";

/** Throws `BUILD_NOT_SHAREABLE` where the API of `full` is not that of `without`, which was built without what `spec` leaves out. */
export function assertSameApi(spec: BlueprintSpec, full: GraphQLSchema, without: GraphQLSchema): void {
  // In which order things come depends on what PostGraphile waited for as it built them.
  const [one, other] = [lexicographicSortSchema(full), lexicographicSortSchema(without)];
  if (printSchema(one) === printSchema(other)) return;
  throw keptIn(spec, `the API still depends on it: without it, ${difference(one, other)} (${cure})`);
}

/** Describes the first difference between the two schemas; a field rather than a type, as types come with their fields. */
function difference(full: GraphQLSchema, without: GraphQLSchema): string {
  const types = Object.values(full.getTypeMap());
  for (const type of types) {
    const other = without.getType(type.name);
    for (const field of fieldsOf(type)) {
      if (other !== undefined && !fieldsOf(other).includes(field))
        return `${type.name}.${field} would be gone`;
    }
  }
  const changed = types.find((type) => {
    const other = without.getType(type.name);
    return other === undefined || printType(other) !== printType(type);
  });
  return changed === undefined ? "something would change" : `${changed.name} would change`;
}

function fieldsOf(type: unknown): readonly string[] {
  if (!isObjectType(type) && !isInterfaceType(type) && !isInputObjectType(type)) return [];
  return Object.keys(type.getFields());
}
