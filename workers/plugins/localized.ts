/// <reference types="postgraphile" preserve="true" />
/** `rowhouse/plugins/localized`: adds a field `localized` to every type whose table has a table of translations. */
import {
  listOfCodec,
  type PgCodec,
  type PgCodecRelation,
  type PgCodecWithAttributes,
  type PgResource,
  TYPES,
} from "postgraphile/@dataplan/pg";
import { applyTransforms, context, each, lambda, object, type Step } from "postgraphile/grafast";
import type {} from "postgraphile/graphile-build-pg";
import type { GraphQLFieldConfigMap } from "postgraphile/graphql";
import { sql } from "postgraphile/pg-sql2";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { perBuild } from "../plugin-api/instance.ts";
import { requestOf } from "../plugin-api/request.ts";
import { type LocaleOptions, localesOf } from "./locales.ts";

declare global {
  namespace GraphileBuild {
    interface ScopeObject {
      /** The codec of the table whose translated columns the type contains. */
      rowhouseLocalized?: PgCodec;
    }
  }
}

export interface LocalizedOptions extends LocaleOptions {
  /** The suffix of a translation table's name; by default `_translations`. */
  readonly suffix?: string;
  /** The translation table's column that holds a row's language as a canonical BCP 47 tag (`de`, `de-AT`); by default `locale`. */
  readonly localeColumn?: string;
}

/** How a table is translated. */
interface Translated {
  readonly type: string;
  readonly translations: PgResource;
  /** Columns of the translation table, and the columns of the base table that they refer to. */
  readonly local: readonly string[];
  readonly remote: readonly string[];
  /** The translated columns. */
  readonly columns: readonly string[];
}

/** A step for a row, from any source. */
type RowStep = Step & { get(attribute: string): Step };

function isRowStep(step: Step): step is RowStep {
  return "get" in step && typeof step.get === "function";
}

/** Creates the plugin for a preset's `plugins`. */
export function localized(options: LocalizedOptions = {}): GraphileConfig.Plugin {
  const { suffix = "_translations", localeColumn = "locale" } = options;
  const tablesOf = perBuild(() => new Map<PgCodec, Translated>());

  return {
    name: "RowhouseLocalizedPlugin",
    version: "1.0.0",
    schema: {
      hooks: {
        init: {
          after: ["PgCodecs"],
          callback(_, build) {
            const tables = tablesOf(build);
            for (const resource of Object.values(build.input.pgRegistry.pgResources)) {
              const translated = translatedBy(build, resource, suffix, localeColumn);
              if (translated === undefined) continue;
              const { codec, ...table } = translated;
              tables.set(codec, table);
              build.registerObjectType(
                table.type,
                { rowhouseLocalized: codec },
                () => ({
                  description:
                    "Columns in the request's language, or untranslated if there is no translation.",
                }),
                "a type of RowhouseLocalizedPlugin",
              );
            }
            return _;
          },
        },
        GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
          const tables = tablesOf(build);
          const own = scope.isPgClassType && scope.pgCodec ? tables.get(scope.pgCodec) : undefined;
          if (own !== undefined) {
            const type = new build.graphql.GraphQLNonNull(build.getOutputTypeByName(own.type));
            const plan = ($row: Step): Step => found($row, own, localeColumn, options);
            const field = fieldWithHooks({ fieldName: "localized" }, { type, plan });
            return build.extend(fields, { localized: field }, "RowhouseLocalizedPlugin");
          }
          const codec = scope.rowhouseLocalized;
          const table = codec === undefined ? undefined : tables.get(codec);
          if (codec === undefined || table === undefined) return fields;
          return build.extend(
            fields,
            localizedFields(build, codec, table, localeColumn),
            "RowhouseLocalizedPlugin",
          );
        },
      },
    },
  };
}

/** What `resource` translates, if it is a translation table. */
function translatedBy(
  build: GraphileBuild.Build,
  resource: PgResource,
  suffix: string,
  localeColumn: string,
): (Translated & { readonly codec: PgCodec }) | undefined {
  const { codec } = resource;
  const { name = "", schemaName = "" } = codec.extensions?.pg ?? {};
  if (resource.parameters !== undefined || !name.endsWith(suffix)) return undefined;
  if (!hasAttributes(codec) || codec.attributes[localeColumn] === undefined) return undefined;
  const relations: Record<string, PgCodecRelation> = build.input.pgRegistry.pgRelations[codec.name] ?? {};
  const base = name.slice(0, -suffix.length);
  const relation = Object.values(relations).find(({ isReferencee, remoteResource }) => {
    const target = remoteResource.codec.extensions?.pg;
    return isReferencee !== true && target?.name === base && target.schemaName === schemaName;
  });
  if (relation === undefined) return undefined;
  const { localAttributes: local, remoteAttributes: remote, remoteResource } = relation;
  const columns = Object.entries(codec.attributes)
    .filter(
      ([column, attribute]) =>
        column !== localeColumn &&
        !local.includes(column) &&
        isLeaf(build, attribute.codec) &&
        isShown(build, codec, column),
    )
    .map(([column]) => column);
  const type = `${build.inflection.tableType(remoteResource.codec)}Localized`;
  return { codec: remoteResource.codec, type, translations: resource, local, remote, columns };
}

/** Whether the API exposes the column on its own table. */
function isShown(build: GraphileBuild.Build, codec: PgCodecWithAttributes, column: string): boolean {
  return build.behavior.pgCodecAttributeMatches([codec, column], "attribute:select") === true;
}

/** Whether the codec's values are GraphQL scalars; composite values need plans of their own. */
function isLeaf(build: GraphileBuild.Build, codec: PgCodec): boolean {
  if (
    codec.attributes !== undefined ||
    codec.arrayOfCodec !== undefined ||
    codec.rangeOfCodec !== undefined
  ) {
    return false;
  }
  return build.hasGraphQLTypeForPgCodec(codec, "output");
}

/** The translations of `$row` into the request's languages, best first, joined to the statement that reads the row. */
function found($row: Step, table: Translated, localeColumn: string, options: LocaleOptions): Step {
  if (!isRowStep($row)) throw new HostError("INTERNAL", "localized needs a row");
  const key = Object.fromEntries(
    table.local.map((column, index) => [column, $row.get(table.remote[index] ?? "")]),
  );
  const $translations = table.translations.find(key);
  const $locales = lambda(context(), (request) => localesOf(requestOf(request), options));
  const locales = $translations.placeholder($locales, listOfCodec(TYPES.text));
  const locale = sql`${$translations.alias}.${sql.identifier(localeColumn)}::text`;
  $translations.where(sql`${locale} = any(${locales})`);
  $translations.orderBy({
    fragment: sql`pg_catalog.array_position(${locales}, ${locale})`,
    codec: TYPES.int,
    direction: "ASC",
  });
  return object({ row: $row, translations: $translations.items() });
}

function localizedFields(
  build: GraphileBuild.Build,
  codec: PgCodec,
  table: Translated,
  localeColumn: string,
): GraphQLFieldConfigMap<unknown, unknown> {
  const { codec: translations } = table.translations;
  if (!hasAttributes(translations)) throw new HostError("INTERNAL", "a translation table must have columns");
  const first = ($found: Step, column: string, base: string | undefined): Step => {
    if (!isRowStep($found)) throw new HostError("INTERNAL", "localized was planned from an unexpected step");
    const $row = $found.get("row");
    const $values = applyTransforms(
      each($found.get("translations"), ($one) => (isRowStep($one) ? $one.get(column) : $one)),
    );
    if (base === undefined || !isRowStep($row)) return lambda($values, firstOf);
    return lambda([$values, $row.get(base)], ([values, own]) => firstOf(values) ?? own ?? null);
  };
  const fields = table.columns.map((column) => {
    const attribute = translations.attributes[column];
    const type = attribute && build.getGraphQLTypeByPgCodec(attribute.codec, "output");
    if (!type || !build.graphql.isOutputType(type)) return [];
    const base =
      hasAttributes(codec) && column in codec.attributes && isShown(build, codec, column)
        ? column
        : undefined;
    const fieldName = build.inflection.attribute({ codec: translations, attributeName: column });
    return [[fieldName, { type, plan: ($found: Step) => first($found, column, base) }]] as const;
  });
  return Object.fromEntries([
    ...fields.flat(),
    [
      "locale",
      {
        description:
          "The language of the best translation, or null if there is none in a requested language.",
        type: build.graphql.GraphQLString,
        plan: ($found: Step) => first($found, localeColumn, undefined),
      },
    ],
  ]);
}

function hasAttributes(codec: PgCodec): codec is PgCodecWithAttributes {
  return codec.attributes !== undefined;
}

function firstOf(values: unknown): unknown {
  return Array.isArray(values)
    ? (values.find((value) => value !== null && value !== undefined) ?? null)
    : null;
}
