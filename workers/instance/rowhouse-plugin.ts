/** Makes PostGraphile serve tenants: one pipeline per read, the request's own access to PostgreSQL, and limits on what it may ask. */

import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import type {} from "postgraphile/grafserv";
import type {} from "postgraphile/graphile-build";
import type {} from "postgraphile/graphile-build-pg";
import { getOperationAST } from "postgraphile/graphql";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { OperationLimits } from "../../src/shared/protocol/messages.ts";
import { readAlone } from "../graphile/executor.ts";
import type { Patching } from "../graphile/patching.ts";
import type { ServingWithPgClient, SingleQuery } from "../postgres/adaptor.ts";
import { assertAnswerable } from "../request/answerable.ts";
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
 * statement follows, so that begin, settings, query and rollback can be one write.
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
    // As PostGraphile does, because the change may have outdated earlier reads.
    cacheOf(executor, context)?.reset();
    return result;
  });
}

/**
 * A `withPgClient` object for one request only. Plugins may use the object as a key for what they keep; a single one would be a
 * key shared by all of an instance's tenants.
 */
function ownWithPgClient(serving: ServingWithPgClient): ServingWithPgClient {
  const own: WithPgClient<NodePostgresPgClient> = (settings, callback) => serving(settings, callback);
  const { single, singleWrite } = serving;
  return Object.assign(own, { single, singleWrite, release: () => undefined });
}

/**
 * Gives a request its access to PostgreSQL and its own settings, overriding what the preset put there. Throws `SETTING_RESERVED`
 * if the preset sets a reserved setting; the host then answers with that error.
 */
function sealContext(args: Grafast.ExecutionArgs, withPgClient: ServingWithPgClient): void {
  const { contextValue, requestContext } = args;
  if (typeof contextValue !== "object" || contextValue === null) return;
  const scope = requestContext?.rowhouse;
  const given = "pgSettings" in contextValue ? contextValue.pgSettings : undefined;
  const pgSettings = scope === undefined ? withoutRequest(given) : withRequestSettings(given, scope);
  // PostGraphile's own `withPgClient` goes through a cache that arms a five-second timer per call.
  Object.assign(contextValue, { pgSettings, withPgClient: ownWithPgClient(withPgClient) });
  const feed = scope?.feed ?? null;
  if (feed === null) return;
  const { document, operationName } = args;
  feed.isSubscription = getOperationAST(document, operationName)?.operation === "subscription";
  // Over the preset's own: what is notified in a database is every tenant's.
  Object.assign(contextValue, { pgSubscriber: feed.subscriber });
}

/** Errors that are to be the whole answer. */
function isRefusal(error: unknown): error is HostError {
  return error instanceof HostError && (error.code === "SETTING_RESERVED" || error.code === "BAD_REQUEST");
}

/**
 * The plugin that comes before all others of an instance. It overrides what they do to a request's context, while they may
 * override how documents are read and how GraphiQL looks. `serving` is a function because its value is known only after the
 * build. `masked` returns the part of an error thrown before execution that a client may see, since grafserv passes its message
 * on unchanged.
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
            assertAnswerable(args);
            await next();
            // Only now has the preset's own `grafast.context` been merged in, with anything that it may contain.
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
          if (basePath !== "") await moveGraphiql(event, basePath);
          return next();
        },
      },
    },
  };
}

/** Has GraphiQL's page ask below the prefix by which the request was routed. */
async function moveGraphiql(
  event: Pick<Parameters<GraphileConfig.GrafservMiddleware["ruruHTML"]>[0], "config" | "htmlParts">,
  basePath: string,
): Promise<void> {
  const { makeHTMLParts } = await import("postgraphile/grafserv/ruru/server");
  event.config.endpoint = `${basePath}${event.config.endpoint}`;
  event.config.staticPath = `${basePath}${event.config.staticPath}`;
  event.htmlParts = makeHTMLParts(event.config);
}

/** The plugin that comes after all others of an instance: it sees the request's body and the validation rules as they leave them. */
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
          // Whether they are too long can be decided once the operation is known.
          if (rowhouse !== undefined) rowhouse.longLists = longListsIn(variableValues);
          return next();
        },
      },
    },
  };
}
