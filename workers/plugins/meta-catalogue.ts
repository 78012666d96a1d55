/** What the `meta` plugin reads from the catalogue while an instance is built: plain data, in logical names. */
import type {
  Introspection,
  PgClass,
  PgConstraint,
  PgType,
} from "postgraphile/graphile-build-pg/pg-introspection";
import type { Instance } from "../plugin-api/instance.ts";

export interface MetaColumn {
  readonly name: string;
  /** For example `int4`, `text[]` or `app.mood`. */
  readonly type: string;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  readonly description: string | null;
}

export interface MetaReference {
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly string[];
}

export interface MetaConstraint {
  readonly name: string;
  readonly kind: (typeof constraintKinds)[keyof typeof constraintKinds];
  readonly columns: readonly string[];
  readonly references: MetaReference | null;
}

export interface CatalogueTable {
  readonly schema: string;
  readonly name: string;
  readonly kind: (typeof tableKinds)[keyof typeof tableKinds];
  readonly description: string | null;
  readonly columns: readonly MetaColumn[];
  readonly constraints: readonly MetaConstraint[];
}

const tableKinds = {
  r: "TABLE",
  p: "TABLE",
  v: "VIEW",
  m: "MATERIALIZED_VIEW",
  f: "FOREIGN_TABLE",
} as const;

const constraintKinds = {
  p: "PRIMARY_KEY",
  u: "UNIQUE",
  f: "FOREIGN_KEY",
  c: "CHECK",
  x: "EXCLUSION",
} as const;

function at<Kind>(kinds: Readonly<Record<string, Kind>>, letter: string): Kind | undefined {
  return Object.hasOwn(kinds, letter) ? kinds[letter] : undefined;
}

/** The tables of the served schemas by `tableKey`, which is made of the schema's name in the build and the table's. */
export function catalogueTables(instance: Instance, { classes }: Introspection): Map<string, CatalogueTable> {
  const tables = new Map<string, CatalogueTable>();
  for (const pgClass of classes) {
    const called = pgClass.getNamespace()?.nspname ?? "";
    const schema = instance.logicalSchema(called);
    const kind = at(tableKinds, pgClass.relkind);
    if (kind === undefined || schema === undefined || !instance.schemas.includes(schema)) continue;
    tables.set(tableKey(called, pgClass.relname), {
      schema,
      name: pgClass.relname,
      kind,
      description: descriptionOf(pgClass),
      columns: columnsOf(instance, pgClass),
      constraints: pgClass.getConstraints().flatMap((each) => constraintOf(instance, each) ?? []),
    });
  }
  return tables;
}

export function tableKey(schema: string, name: string): string {
  return JSON.stringify([schema, name]);
}

/** The comment without its smart tags. */
function descriptionOf(entity: {
  getTagsAndDescription(): { readonly description?: string | undefined };
}): string | null {
  return entity.getTagsAndDescription().description ?? null;
}

function columnsOf(instance: Instance, pgClass: PgClass): MetaColumn[] {
  return pgClass
    .getAttributes()
    .filter((each) => each.attnum > 0 && each.attisdropped !== true)
    .map((each) => ({
      name: each.attname,
      type: typeText(instance, each.getType()),
      notNull: each.attnotnull === true,
      hasDefault: each.atthasdef === true || (each.attidentity ?? "") !== "",
      description: descriptionOf(each),
    }));
}

function typeText(instance: Instance, type: PgType | undefined): string {
  if (type === undefined) return "unknown";
  const element = type.typcategory === "A" ? type.getElemType() : undefined;
  if (element !== undefined) return `${typeText(instance, element)}[]`;
  const schema = instance.logicalSchema(type.getNamespace()?.nspname ?? "pg_catalog");
  return schema === undefined ? type.typname : `${schema}.${type.typname}`;
}

function constraintOf(instance: Instance, constraint: PgConstraint): MetaConstraint | undefined {
  const kind = at(constraintKinds, constraint.contype);
  if (kind === undefined) return undefined;
  const names = (constraint.getAttributes() ?? []).map((each) => each.attname);
  return {
    name: constraint.conname,
    kind,
    columns: names,
    references: kind === "FOREIGN_KEY" ? referenceOf(instance, constraint) : null,
  };
}

/** Null if the foreign key points outside the served and shared schemas: those are not part of this API. */
function referenceOf(instance: Instance, constraint: PgConstraint): MetaReference | null {
  const target = constraint.getForeignClass();
  const schema = instance.logicalSchema(target?.getNamespace()?.nspname ?? "");
  if (target === undefined || schema === undefined) return null;
  return {
    schema,
    table: target.relname,
    columns: (constraint.getForeignAttributes() ?? []).map((each) => each.attname),
  };
}
