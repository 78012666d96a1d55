/** PostGraphile's `jwt` output type: turns a composite value that a login function returns into a signed token. */
import type { PgCodec } from "postgraphile/@dataplan/pg";
import { context, lambda, type Step } from "postgraphile/grafast";
import type {} from "postgraphile/graphile-build";
import { parseDatabaseIdentifier, parseDatabaseIdentifiers } from "postgraphile/graphile-build-pg";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { RequestScope, requestScope } from "../request/request-scope.ts";

declare global {
  namespace GraphileConfig {
    interface Plugins {
      RowhouseLoginTokensPlugin: true;
    }
  }
}

/** The name of PostGraphile's own plugin, which this one replaces. */
export const replacedPlugin = "PgJWTPlugin";

interface RecordStep extends Step {
  record(): Step;
}

function isRecordStep(step: Step): step is RecordStep {
  return "record" in step && typeof step.record === "function";
}

/**
 * Replaces PgJWTPlugin, which signs with a single secret fixed when the schema is built: shared by the tenants of a pooled
 * instance, it would make each tenant's tokens valid for all of them. Here the build decides whether a type is a token, and the
 * request supplies the secret. Takes the position of `replaced`, and its name for plugins ordered before or after that.
 */
export function loginTokensPlugin({
  name: replaced,
  provides = [],
  before,
  after,
}: GraphileConfig.Plugin): GraphileConfig.Plugin {
  return {
    name: "RowhouseLoginTokensPlugin",
    version: "1.0.0",
    provides: [...provides, replaced],
    ...(before === undefined ? {} : { before }),
    ...(after === undefined ? {} : { after }),
    gather: {
      hooks: {
        pgCodecs_PgCodec: {
          provides: [replaced],
          callback({ options }, { pgCodec, pgType }) {
            const place = pgType.getNamespace()?.nspname;
            const named = namedTypes(options).some(
              ([schema, type]) => schema === place && type === pgType.typname,
            );
            if (!named) return;
            const { extensions } = pgCodec;
            const tags = { ...extensions?.tags, behavior: ["-table", "jwt"] };
            pgCodec.extensions = { ...extensions, tags };
          },
        },
      },
    },
    schema: {
      behaviorRegistry: {
        add: { jwt: { description: "Does this codec represent a JWT?", entities: ["pgCodec"] } },
      },
      hooks: {
        init: {
          provides: [replaced],
          callback(value, build) {
            const { pgJwtSecret, pgJwtSignOptions } = build.options;
            if (pgJwtSecret !== undefined || pgJwtSignOptions !== undefined) {
              throw new HostError(
                "BUILD_FAILED",
                "the preset sets schema.pgJwtSecret or pgJwtSignOptions, which all tenants would share: configure jwt per tenant",
              );
            }
            for (const codec of build.allPgCodecs) {
              if (build.behavior.pgCodecMatches(codec, "jwt")) registerToken(build, codec);
            }
            return value;
          },
        },
      },
    },
  };
}

/** `gather.pgJwtType` and `gather.pgJwtTypes`, in the forms that PostGraphile accepts. */
function namedTypes(options: GraphileBuild.GatherOptions): readonly (readonly [string, string])[] {
  const { pgJwtType: one, pgJwtTypes: some = [] } = options;
  const named: [string, string][] = [];
  if (typeof one === "string") named.push(...parseDatabaseIdentifiers(one, 2, "public"));
  else if (one !== undefined) named.push(one);
  if (typeof some === "string") named.push(...parseDatabaseIdentifiers(some, 2, "public"));
  else named.push(...some.map((type) => parseDatabaseIdentifier(type, 2, "public")));
  return named;
}

function registerToken(build: GraphileBuild.Build, codec: PgCodec): void {
  if (codec.attributes === undefined) {
    throw new HostError("BUILD_FAILED", `the token type ${codec.name} must be a composite type`);
  }
  const name = build.inflection.tableType(codec);
  const attributes = Object.keys(codec.attributes);
  build.registerScalarType(
    name,
    { isPgJwtType: true, pgCodec: codec },
    () => ({
      description: build.wrapDescription(
        "A JSON Web Token defined by [RFC 7519](https://tools.ietf.org/html/rfc7519) which securely represents claims between two parties.",
        "type",
      ),
      serialize: (value) => value,
      extensions: {
        grafast: {
          plan($in: Step) {
            if (!isRecordStep($in))
              throw new HostError("BUILD_FAILED", `${name} must be planned from a record`);
            return lambda([$in.record(), context()], ([record, request]) =>
              sign(attributes, record, request),
            );
          },
        },
      },
    }),
    "JWT scalar from RowhouseLoginTokensPlugin",
  );
  build.setGraphQLTypeForPgCodec(codec, "output", name);
}

/** The token for a function's result; null if that is null, which PostgreSQL returns as a row of nulls. */
async function sign(
  attributes: readonly string[],
  record: unknown,
  request: unknown,
): Promise<string | null> {
  if (typeof record !== "object" || record === null) return null;
  const all = new Map<string, unknown>(Object.entries(record));
  const claims = Object.fromEntries(attributes.map((name) => [name, all.get(name) ?? null]));
  if (Object.values(claims).every((value) => value === null)) return null;
  return await scopeIn(request).sign(claims);
}

/** The request that a context belongs to. */
function scopeIn(request: unknown): RequestScope {
  const settings =
    typeof request === "object" && request !== null && "pgSettings" in request ? request.pgSettings : null;
  if (typeof settings === "object" && settings !== null && requestScope in settings) {
    const scope: unknown = settings[requestScope];
    if (scope instanceof RequestScope) return scope;
  }
  throw new HostError("INTERNAL", "a token was requested outside a request");
}
