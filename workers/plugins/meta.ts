/// <reference types="postgraphile" preserve="true" />
/** `rowhouse/plugins/meta`: adds a field `_meta` that describes tables, columns, constraints and relations in logical names. */

import { context, lambda } from "postgraphile/grafast";
import type {} from "postgraphile/graphile-build-pg";
import { extendSchema, gql } from "postgraphile/utils";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { instanceOf, perBuild } from "../plugin-api/instance.ts";
import { requestOf, type TenantRequest } from "../plugin-api/request.ts";
import { type CatalogueTable, catalogueTables, type MetaReference, tableKey } from "./meta-catalogue.ts";
import { exposedTables, type MetaTable } from "./meta-tables.ts";

/** With an underscore, because a tenant may well have a table called `meta`. */
const typeDefs = gql`
  extend type Query {
    "The tables behind this API that the request's role has any privilege on."
    _meta: _Meta!
  }
  type _Meta {
    "Logical names of the served schemas, in order."
    schemas: [String!]!
    tables: [_MetaTable!]!
  }
  enum _MetaTableKind { TABLE VIEW MATERIALIZED_VIEW FOREIGN_TABLE }
  type _MetaTable {
    "The logical name of its schema."
    schema: String!
    name: String!
    kind: _MetaTableKind!
    "The GraphQL type of its rows."
    type: String!
    description: String
    columns: [_MetaColumn!]!
    constraints: [_MetaConstraint!]!
    relations: [_MetaRelation!]!
  }
  type _MetaColumn {
    name: String!
    "The field of the table's GraphQL type."
    field: String!
    "PostgreSQL's type, such as \`int4\`, \`text[]\` or, with its logical schema, \`app.mood\`."
    type: String!
    notNull: Boolean!
    hasDefault: Boolean!
    description: String
  }
  enum _MetaConstraintKind { PRIMARY_KEY UNIQUE FOREIGN_KEY CHECK EXCLUSION }
  type _MetaConstraint {
    name: String!
    kind: _MetaConstraintKind!
    columns: [String!]!
    "The foreign key's target, if it is in a served or shared schema."
    references: _MetaReference
  }
  type _MetaRelation {
    "The field of the table's GraphQL type."
    field: String!
    columns: [String!]!
    references: _MetaReference!
    "Whether the relation leads to at most one row."
    single: Boolean!
  }
  type _MetaReference {
    schema: String!
    table: String!
    columns: [String!]!
  }
`;

/** The state of one build: filled while gathering, turned into `tables` when its schema is finished. */
interface State {
  readonly schemas: readonly string[];
  catalogue: ReadonlyMap<string, CatalogueTable>;
  tables: readonly MetaTable[];
}

/** Creates the plugin for a preset's `plugins`. */
export function meta(): GraphileConfig.Plugin {
  const stateOf = perBuild<State>(({ schemas }) => ({ schemas, catalogue: new Map(), tables: [] }));

  const extension = extendSchema((build) => {
    const state = stateOf(build);
    return {
      typeDefs,
      objects: {
        Query: {
          plans: {
            _meta: () =>
              lambda(context(), async (request) => ({
                schemas: state.schemas,
                tables: await visible(state, requestOf(request)),
              })),
          },
        },
      },
    };
  }, "RowhouseMetaPlugin");

  return {
    ...extension,
    version: "1.0.0",
    gather: {
      hooks: {
        pgIntrospection_introspection(info, { introspection }) {
          const state = stateOf(info);
          state.catalogue = catalogueTables(instanceOf(info), introspection);
        },
      },
    },
    schema: {
      ...extension.schema,
      hooks: {
        ...extension.schema?.hooks,
        finalize(schema, build) {
          const state = stateOf(build);
          state.tables = exposedTables(state.catalogue, schema, build);
          state.catalogue = new Map();
          return schema;
        },
      },
    },
  };
}

/** Names are passed as parameters: the physical schema names come from the request, so pooled and dedicated instances answer alike. */
const rightsText = `
select t.ord::int4 as ord, array(
  select a.attname::text
  from pg_catalog.pg_attribute a
  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  and pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT, INSERT, UPDATE, REFERENCES')
) as columns
from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality as t(schema, name, ord)
join pg_catalog.pg_namespace n on n.nspname = t.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
where pg_catalog.has_schema_privilege(n.oid, 'USAGE')`;

/**
 * The tables and columns that the request's role has any right to, with the constraints and relations whose columns are all among
 * them.
 */
async function visible(state: State, request: TenantRequest): Promise<MetaTable[]> {
  const physical = state.tables.map(
    ({ schema }) => request.binding.searchPath[state.schemas.indexOf(schema)],
  );
  const names = state.tables.map(({ name }) => name);
  const rights = new Map<number, ReadonlySet<unknown>>();
  for (const { ord, columns } of await request.query(rightsText, [physical, names])) {
    if (!Array.isArray(columns)) throw new HostError("INTERNAL", "the privileges on a table are not a list");
    rights.set(Number(ord) - 1, new Set<unknown>(columns));
  }
  const seen = new Map<string, ReadonlySet<unknown>>();
  state.tables.forEach(({ schema, name }, index) => {
    const columns = rights.get(index);
    if (columns !== undefined && columns.size > 0) seen.set(tableKey(schema, name), columns);
  });
  const sees = (schema: string, table: string, columns: readonly string[]): boolean => {
    const rightsThere = seen.get(tableKey(schema, table));
    return rightsThere !== undefined && columns.every((column) => rightsThere.has(column));
  };
  return state.tables
    .filter(({ schema, name }) => seen.has(tableKey(schema, name)))
    .map((table) => {
      const own = (columns: readonly string[]): boolean => sees(table.schema, table.name, columns);
      const leadsTo = (to: MetaReference): boolean => sees(to.schema, to.table, to.columns);
      return {
        ...table,
        columns: table.columns.filter(({ name }) => own([name])),
        constraints: table.constraints
          .filter(({ columns }) => own(columns))
          .map((each) =>
            each.references === null || leadsTo(each.references) ? each : { ...each, references: null },
          ),
        relations: table.relations.filter(({ columns, references }) => own(columns) && leadsTo(references)),
      };
    });
}
