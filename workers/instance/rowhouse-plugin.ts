/** What makes PostGraphile serve tenants: one burst per read, the request's way to PostgreSQL, limits of what it may ask. */

import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import type {} from "postgraphile/grafserv";
import type {} from "postgraphile/graphile-build";
import type {} from "postgraphile/graphile-build-pg";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { OperationLimits } from "../../src/shared/protocol/messages.ts";
import { readAlone } from "../graphile/executor.ts";
import type { Patching } from "../graphile/patching.ts";
import type { ServingWithPgClient, SingleQuery } from "../postgres/adaptor.ts";
import { extentRule } from "../request/complexity.ts";
import { readingWithin } from "../request/documents.ts";
import { longListsIn, orderRule } from "../request/order-limit.ts";
import { withoutRequest, withRequestSettings } from "../request/preset-settings.ts";
import type { RequestSettings } from "../request/request-scope.ts";
import { assertFewValues } from "../request/variables.ts";

interface ExecutorContext {
  readonly pgSettings: RequestSettings;
  readonly withPgClient: object;
}

type ExecuteOne = (
  context: ExecutorContext,
  text: string,
  values: unknown[],
  name: string | undefined,
  publish: unknown,
) => Promise<PgClientResult<unknown>>;

function isExecuteOne(value: unknown): value is ExecuteOne {
  return typeof value === "function" && value.length === 5;
}

interface MutationOptions {
  readonly context: ExecutorContext;
  readonly text: string;
  readonly values: unknown[];
}

type ExecuteMutation = (options: MutationOptions) => Promise<unknown>;

function isExecuteMutation(value: unknown): value is ExecuteMutation {
  return typeof value === "function" && value.length === 1;
}

function queryIn(withPgClient: object, name: "single" | "singleWrite"): SingleQuery | undefined {
  const found: unknown = Reflect.get(withPgClient, name);
  return isSingle(found) ? found : undefined;
}

function isSingle(value: unknown): value is SingleQuery {
  return typeof value === "function";
}

/** Puts what `make` makes of it in the place of a PgExecutor's method `name`; returns false where that is not the known one. */
function replaceMethod<Method>(
  executor: object,
  name: string,
  isKnown: (value: unknown) => value is Method,
  make: (original: Method) => Method,
): boolean {
  const original: unknown = Reflect.get(executor, name);
  if (!isKnown(original)) return false;
  Object.defineProperty(executor, name, { value: make(original) });
  return true;
}

/**
 * The method by which a PgExecutor sends one read (`_execute` of @dataplan/pg 1.1) is the only place that knows that no second
 * statement follows, so that begin, settings, query and commit can be one write.
 */
function sendReadsAsOneBurst(executor: object): boolean {
  return replaceMethod(
    executor,
    "_execute",
    isExecuteOne,
    (original) => (context, text, values, name, publish) => {
      const single = queryIn(context.withPgClient, "single");
      // With `publish`, PostGraphile explains the operation with a second statement.
      if (single === undefined || publish !== undefined) {
        return original.call(executor, context, text, values, name, publish);
      }
      const query: PgClientQuery = { text, values, arrayMode: true, ...(name === undefined ? {} : { name }) };
      return single(context.pgSettings, query);
    },
  );
}

/** The reads that a PgExecutor has cached in a request's context. */
function cacheOf(executor: object, context: object): { reset(): void } | undefined {
  const key: unknown = Reflect.get(executor, "$$cache");
  const cache: unknown = typeof key === "symbol" ? Reflect.get(context, key) : undefined;
  return isResettable(cache) ? cache : undefined;
}

function isResettable(value: unknown): value is { reset(): void } {
  return typeof value === "object" && value !== null && "reset" in value && typeof value.reset === "function";
}

/**
 * The method by which a PgExecutor sends a mutation (`executeMutation` of @dataplan/pg 1.1) sends one statement and no other: it and
 * its commit can be one write, which saves a round trip of two.
 */
function sendMutationsAsOneBurst(executor: object): boolean {
  return replaceMethod(executor, "executeMutation", isExecuteMutation, (original) => async (options) => {
    const { context, text, values } = options;
    const singleWrite = queryIn(context.withPgClient, "singleWrite");
    if (singleWrite === undefined) return original.call(executor, options);
    const result = await singleWrite(context.pgSettings, { text, values, arrayMode: true });
    // As PostGraphile does: what was read before the change may not be so any more.
    cacheOf(executor, context)?.reset();
    return result;
  });
}

/**
 * The same for one request. One object for all of an instance's tenants would be a key that they share, wherever a plugin keeps
 * something by the way to the database that it came from.
 */
function ownWithPgClient(serving: ServingWithPgClient): ServingWithPgClient {
  const own: WithPgClient<NodePostgresPgClient> = (settings, callback) => serving(settings, callback);
  const { single, singleWrite } = serving;
  return Object.assign(own, { single, singleWrite, release: () => undefined });
}

/**
 * Gives a request its way to PostgreSQL, and its own settings, over whatever the preset made of them. Throws `SETTING_RESERVED`, which the
 * host answers with, where the preset sets what is the host's.
 */
function sealContext(args: Grafast.ExecutionArgs, withPgClient: ServingWithPgClient): void {
  const { contextValue, requestContext } = args;
  if (typeof contextValue !== "object" || contextValue === null) return;
  const scope = requestContext?.rowhouse;
  const given = "pgSettings" in contextValue ? contextValue.pgSettings : undefined;
  const pgSettings = scope === undefined ? withoutRequest(given) : withRequestSettings(given, scope);
  // PostGraphile's own `withPgClient` goes through a cache that arms a five-second timer per call.
  Object.assign(contextValue, { pgSettings, withPgClient: ownWithPgClient(withPgClient) });
}

function isRefusal(error: unknown): error is HostError {
  return error instanceof HostError && error.code === "SETTING_RESERVED";
}

/**
 * The plugin of one instance that comes before all others, so that it has the last word on what they do to a request's context, and they on
 * how documents are read and GraphiQL looks. `serving` is only known once the build is done, hence a function. `masked` gives what a
 * client may see of an error that is thrown before execution: grafserv passes its message on as it is.
 */
export function rowhousePlugin(
  serving: () => ServingWithPgClient,
  masked: (error: unknown) => unknown,
  limits: OperationLimits,
  patching: Patching,
): GraphileConfig.Plugin {
  return {
    name: "RowhousePlugin",
    version: "1.0.0",
    gather: {
      hooks: {
        pgRegistry_PgRegistryBuilder_init(info) {
          const executor = info.helpers.pgIntrospection.getExecutorForService("main");
          patching.apply("single-reads", () => sendReadsAsOneBurst(executor));
          patching.apply("single-writes", () => sendMutationsAsOneBurst(executor));
          patching.apply("lone-reads", () => readAlone(executor));
        },
      },
    },
    grafast: {
      middleware: {
        async prepareArgs(next, event) {
          const { args } = event;
          try {
            await next();
            // Only now has the preset's own `grafast.context` been merged in, whatever it may have put there.
            sealContext(args, serving());
          } catch (error) {
            const scope = args.requestContext?.rowhouse;
            // Nothing of the request has run; grafserv would answer without the code.
            if (isRefusal(error) && scope !== undefined) scope.hostFailure ??= error;
            throw masked(error);
          }
          return args;
        },
      },
    },
    grafserv: {
      middleware: {
        setPreset(next, event) {
          event.getExecutionConfig = readingWithin(
            limits,
            () => event.validationRules,
            event.getExecutionConfig,
          );
          return next();
        },
        async ruruHTML(next, event) {
          const basePath = event.request.requestContext.rowhouse?.basePath ?? "";
          if (basePath !== "") {
            const { makeHTMLParts } = await import("postgraphile/grafserv/ruru/server");
            event.config.endpoint = `${basePath}${event.config.endpoint}`;
            event.config.staticPath = `${basePath}${event.config.staticPath}`;
            event.htmlParts = makeHTMLParts(event.config);
          }
          return next();
        },
      },
    },
  };
}

/** The plugin of one instance that comes behind all others: it sees a request's body, and the rules for documents, as they leave them. */
export function rowhouseRequestPlugin(limits: OperationLimits): GraphileConfig.Plugin {
  return {
    name: "RowhouseRequestPlugin",
    version: "1.0.0",
    grafserv: {
      middleware: {
        setPreset(next, event) {
          event.validationRules.unshift(extentRule(limits), orderRule);
          return next();
        },
        processGraphQLRequestBody(next, event) {
          const { variableValues, extensions } = event.body;
          assertFewValues(variableValues, limits);
          assertFewValues(extensions, limits);
          const rowhouse = event.request?.requestContext.rowhouse;
          // Whether they are too long is known with the operation.
          if (rowhouse !== undefined) rowhouse.longLists = longListsIn(variableValues);
          return next();
        },
      },
    },
  };
}
