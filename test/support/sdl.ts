/** Builds a schema as PostGraphile alone would, or with scoped introspection, and reports everything visible of it. */
import { Pool } from "pg";
import { makeSchema } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafast } from "postgraphile/grafast";
import {
  type GraphQLField,
  type GraphQLSchema,
  getNamedType,
  isLeafType,
  isObjectType,
  lexicographicSortSchema,
  printSchema,
} from "postgraphile/graphql";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import {
  type IntrospectionScope,
  isIntrospectionQuery,
  scopedIntrospection,
} from "../../workers/instance/introspection.ts";

export interface Built {
  readonly sdl: string;
  /** The SQL sent by a query of every list at the root, in no particular order. */
  readonly sql: readonly string[];
  /** The answer to that query. */
  readonly answer: string;
  readonly schema: GraphQLSchema;
  /** How each introspection query ran. */
  readonly introspections: readonly ("stock" | "scoped")[];
}

/** With `scope` null, builds as stock PostGraphile. `schemas` are the served schemas, in order. */
export async function buildSdl(
  url: string,
  schemas: readonly string[],
  scope: IntrospectionScope | null,
): Promise<Built> {
  const pool = new Pool({ connectionString: url, max: 2 });
  const sent: string[] = [];
  const introspections: ("stock" | "scoped")[] = [];
  const service = makePgService({ pool, schemas: [...schemas] });
  const adaptor = {
    ...service.adaptor,
    createWithPgClient: async (...parameters: Parameters<typeof service.adaptor.createWithPgClient>) => {
      const withPgClient = await service.adaptor.createWithPgClient(...parameters);
      const wrapped = (settings: Record<string, string> | null, callback: (client: object) => unknown) =>
        withPgClient(settings, (client) =>
          callback({
            ...client,
            query: (query: { text: string; values?: unknown[] }) => {
              if (isIntrospectionQuery(query.text)) {
                introspections.push(scope === null ? "stock" : "scoped");
                const replaced = scope === null ? {} : scopedIntrospection(query.text, scope);
                return client.query({ ...query, ...replaced } as never);
              }
              sent.push(query.text);
              return client.query(query as never);
            },
          }),
        );
      return Object.assign(wrapped, withPgClient);
    },
  };
  try {
    const { schema, resolvedPreset } = await makeSchema({
      extends: [PostGraphileAmberPreset],
      pgServices: [{ ...service, adaptor } as never],
      schema: { dontSwallowErrors: true },
    });
    sent.length = 0;
    // Sorted, so that schemas that differ only in the order of their fields get the same query.
    const source = queryOfEverything(lexicographicSortSchema(schema));
    const result = await grafast({ schema, source, resolvedPreset, requestContext: {} });
    return {
      sdl: printSchema(schema),
      schema,
      sql: sent.toSorted(),
      answer: JSON.stringify(result),
      introspections,
    };
  } finally {
    await pool.end();
  }
}

/** A document that selects every Query field without required arguments, with its leaves and theirs. */
function queryOfEverything(schema: GraphQLSchema): string {
  const fields = Object.values(schema.getQueryType()?.getFields() ?? {});
  const selections = fields.flatMap((field) =>
    field.name === "query" || field.name === "nodeId" ? [] : (selection(field, 4) ?? []),
  );
  return `{ __typename ${selections.join(" ")} }`;
}

function selection(field: GraphQLField<unknown, unknown>, depth: number): string | null {
  if (field.args.some((argument) => String(argument.type).endsWith("!"))) return null;
  const type = getNamedType(field.type);
  if (isLeafType(type)) return field.name;
  if (depth === 0 || !isObjectType(type)) return null;
  const inner = Object.values(type.getFields())
    .filter((child) => !["pageInfo", "edges", "query"].includes(child.name))
    .flatMap((child) => selection(child, depth - 1) ?? []);
  return inner.length === 0 ? null : `${field.name} { ${inner.join(" ")} }`;
}
