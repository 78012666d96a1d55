/// <reference types="postgraphile" preserve="true" />
/** What a plugin can learn about the instance it is built into, and how its SQL names objects there. */
import { QuoteUtils } from "@pgsql/quotes";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { InstanceFacts } from "../instance/instance-facts.ts";
import { leftOutSchema } from "../postgres/left-out.ts";
import { ownName } from "../postgres/schema-placeholders.ts";

/** Anything Graphile passes to a hook that has `lib`: `build`, the `info` of gather hooks, a resolved preset. */
export interface Built {
  readonly lib?: GraphileConfig.Lib | undefined;
}

export interface Instance {
  /** A `pooled` instance serves every tenant of its blueprint, a `dedicated` one a single tenant. */
  readonly kind: "pooled" | "dedicated";
  /** Logical names of the served schemas, in order. */
  readonly schemas: readonly string[];
  /** Physical names of the schemas that all tenants share; not served. */
  readonly sharedSchemas: readonly string[];
  /**
   * The logical name of the schema that the build calls `name` (`pgNamespace.nspname`, `extensions.pg.schemaName`). For a served
   * schema, that is the same name; for a shared schema, its own name; undefined for any other.
   */
  logicalSchema(name: string): string | undefined;
  /**
   * SQL that names `name` of the schema with this logical name, quoted: by its bare name in a pooled instance, where the
   * request's search path says whose it is, and with its schema in a dedicated one. What lies in a shared schema is
   * named with it. What a pooled instance leaves out goes by a name that it does not send: the request is run again by an instance of the
   * tenant's own. Throws for a schema that is neither.
   */
  identifier(schema: string, name: string): string;
}

/** The facts in `built`, one object for each build. Throws `BUILD_FAILED` outside Rowhouse. */
export function factsOf(built: Built): InstanceFacts {
  const facts = built.lib?.rowhouse;
  if (facts === undefined) {
    throw new HostError("BUILD_FAILED", "rowhouse/plugin only works inside Rowhouse: pass `build` or `info`");
  }
  return facts;
}

/** Describes the instance that `built` (`build`, or the `info` of a gather hook) belongs to. */
export function instanceOf(built: Built): Instance {
  const { kind, schemas, sharedSchemas, leftOut } = factsOf(built);
  const quote = (name: string): string => {
    if (name === "" || name.includes("\0")) throw new HostError("INTERNAL", "not a valid PostgreSQL name");
    return QuoteUtils.quoteIdentifier(name);
  };
  return {
    kind,
    schemas: schemas.map(({ logical }) => logical),
    sharedSchemas,
    logicalSchema(name) {
      const logical = schemas.map((schema) => schema.logical);
      if (logical.includes(name)) return name;
      const own = ownName(name, logical);
      return sharedSchemas.find((shared) => shared === own);
    },
    identifier(schema, name) {
      const served = schemas.find(({ logical }) => logical === schema);
      if (served === undefined && !sharedSchemas.includes(schema)) {
        throw new HostError(
          "INTERNAL",
          `unknown schema ${JSON.stringify(schema)}: use the logical name of a served schema, or a shared schema`,
        );
      }
      if (served === undefined) return `${quote(schema)}.${quote(name)}`;
      if (leftOut.some((object) => object.schema === schema && object.name === name)) {
        return `${leftOutSchema}.${quote(name)}`;
      }
      return served.physical === null ? quote(name) : `${quote(served.physical)}.${quote(name)}`;
    },
  };
}

/**
 * State of a plugin for each build: the returned function gives what `create` made for the build that `build` or `info` belongs
 * to, the same in all its phases. It is released with the build. Needed because cells build several instances, sometimes at once.
 */
export function perBuild<State>(create: (instance: Instance) => State): (built: Built) => State {
  const states = new WeakMap<InstanceFacts, { readonly state: State }>();
  return (built) => {
    const facts = factsOf(built);
    const existing = states.get(facts);
    if (existing !== undefined) return existing.state;
    const state = create(instanceOf(built));
    states.set(facts, { state });
    return state;
  };
}
