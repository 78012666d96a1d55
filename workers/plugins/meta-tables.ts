/// <reference types="postgraphile" preserve="true" />
/** The part of the catalogue that an API exposes, for `_meta`. */
import type {} from "postgraphile/graphile-build-pg";
import { type GraphQLSchema, isObjectType } from "postgraphile/graphql";
import { type CatalogueTable, type MetaColumn, type MetaReference, tableKey } from "./meta-catalogue.ts";

interface Field {
  /** The field of the GraphQL type. */
  readonly field: string;
}

interface MetaRelation extends Field {
  readonly columns: readonly string[];
  readonly references: MetaReference;
  /** Whether it leads to at most one row. */
  readonly single: boolean;
}

export interface MetaTable extends Omit<CatalogueTable, "columns"> {
  readonly type: string;
  readonly columns: readonly (MetaColumn & Field)[];
  readonly relations: readonly MetaRelation[];
}

/** The tables in `catalogue` that have a type in `schema`, reduced to what can be queried there. */
export function exposedTables(
  catalogue: ReadonlyMap<string, CatalogueTable>,
  schema: GraphQLSchema,
  build: GraphileBuild.Build,
): MetaTable[] {
  const { inflection } = build;
  const registry = build.input.pgRegistry;
  const tableOf = (codec: {
    readonly extensions?: DataplanPg.PgCodecExtensions;
  }): CatalogueTable | undefined => {
    const { schemaName = "", name = "" } = codec.extensions?.pg ?? {};
    return catalogue.get(tableKey(schemaName, name));
  };
  const tables = Object.values(registry.pgResources).flatMap((resource): MetaTable[] => {
    const { codec } = resource;
    const table = resource.parameters === undefined ? tableOf(codec) : undefined;
    const type = build.hasGraphQLTypeForPgCodec(codec, "output")
      ? schema.getType(build.getGraphQLTypeNameByPgCodec(codec, "output") ?? "")
      : undefined;
    if (table === undefined || codec.attributes === undefined || !isObjectType(type)) return [];
    const fields = type.getFields();
    const columns = table.columns.flatMap((column) => {
      if (codec.attributes[column.name] === undefined) return [];
      const field = inflection.attribute({ codec, attributeName: column.name });
      return field in fields ? [{ ...column, field }] : [];
    });
    const relations = Object.entries(registry.pgRelations[codec.name] ?? {}).flatMap(
      ([relationName, relation]) => {
        const details = { registry, codec, relationName };
        const single = relation.isUnique === true;
        const names = single
          ? [
              relation.isReferencee
                ? inflection.singleRelationBackwards(details)
                : inflection.singleRelation(details),
            ]
          : [inflection.manyRelationConnection(details), inflection.manyRelationList(details)];
        const field = names.find((name) => name in fields);
        const target = tableOf(relation.remoteResource.codec);
        if (field === undefined || target === undefined) return [];
        const references = { schema: target.schema, table: target.name, columns: relation.remoteAttributes };
        return [{ field, columns: relation.localAttributes, references, single }];
      },
    );
    return [{ ...table, type: type.name, columns, relations }];
  });
  return tables.map((table) => ({ ...table, constraints: exposedConstraints(table, tables) }));
}

/** Constraints whose columns are all exposed, on both sides: others would reveal the names of hidden columns. */
function exposedConstraints(table: MetaTable, tables: readonly MetaTable[]): MetaTable["constraints"] {
  const has = (of: MetaTable | undefined, columns: readonly string[]): boolean =>
    of !== undefined && columns.every((column) => of.columns.some(({ name }) => name === column));
  const targetOf = (to: MetaReference): MetaTable | undefined =>
    tables.find(({ schema, name }) => schema === to.schema && name === to.table);
  return table.constraints.filter(
    ({ columns, references }) =>
      has(table, columns) && (references === null || has(targetOf(references), references.columns)),
  );
}
