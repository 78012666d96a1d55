/** Names that are made of a schema's name: of its logical one, whatever the catalogue calls it. */
import type {} from "postgraphile/graphile-build";
import type {} from "postgraphile/graphile-build-pg";
import type { BlueprintSpec } from "../src/protocol/messages.ts";
import { builtNames } from "./schema-names.ts";

type Inflection = NonNullable<GraphileConfig.Plugin["inflection"]>;
type ReplaceSchemaPrefix = NonNullable<NonNullable<Inflection["replace"]>["_schemaPrefix"]>;
type PgNamespace = Parameters<ReplaceSchemaPrefix>[2]["pgNamespace"];

export interface SchemaPrefix {
  /** For in front of all other replacements: asks PostGraphile's own by the name that its service knows. */
  readonly inner: Inflection;
  /** For behind all of them: asks them by the logical name. */
  readonly outer: Inflection;
}

/** No schema can be called so. */
const nobodys = "pg_rowhouse_";

/**
 * What wraps the inflector `_schemaPrefix`, by which PostGraphile keeps apart what is called alike in two schemas. A preset may have
 * its own, as the V4 preset does: it is asked, and knows schemas by their logical names, the same for every tenant of a blueprint.
 */
export function schemaPrefix(spec: BlueprintSpec): SchemaPrefix {
  const names = builtNames(spec);
  const logicalNames = new Map(names.map((name, index) => [name, spec.schemas[index]?.logical ?? name]));
  /** By what stands in for them. */
  const originals = new WeakMap<PgNamespace, PgNamespace>();
  const standIns = new WeakMap<PgNamespace, PgNamespace>();
  const standInFor = (pgNamespace: PgNamespace): PgNamespace => {
    const known = standIns.get(pgNamespace);
    if (known !== undefined) return known;
    const standIn = called(pgNamespace, logicalNames.get(pgNamespace.nspname) ?? pgNamespace.nspname);
    standIns.set(pgNamespace, standIn);
    originals.set(standIn, pgNamespace);
    return standIn;
  };
  const inner: ReplaceSchemaPrefix = (previous, _options, details) => {
    const { pgNamespace } = details;
    const ask = (by: PgNamespace): string => previous?.({ ...details, pgNamespace: by }) ?? "";
    // PostGraphile's own leaves out the name of the first schema, which it knows by what the service calls it.
    const original = originals.get(pgNamespace);
    if (original !== undefined && original.nspname === names[0]) return ask(original);
    if (original === undefined || pgNamespace.nspname !== names[0]) return ask(pgNamespace);
    return ask(called(original, nobodys)).replace(nobodys, () => pgNamespace.nspname);
  };
  const outer: ReplaceSchemaPrefix = (previous, _options, details) =>
    previous?.({ ...details, pgNamespace: standInFor(details.pgNamespace) }) ?? "";
  return { inner: replacing(inner), outer: replacing(outer) };
}

/** `pgNamespace` by another name. */
function called(pgNamespace: PgNamespace, nspname: string): PgNamespace {
  return Object.create(pgNamespace, { nspname: { value: nspname, enumerable: true } });
}

const replacing = (_schemaPrefix: ReplaceSchemaPrefix): Inflection => ({
  ignoreReplaceIfNotExists: ["_schemaPrefix"],
  replace: { _schemaPrefix },
});
