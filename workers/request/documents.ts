/** Parses GraphQL documents within limits, and caches them by size instead of by number. */
import { LRUCache } from "lru-cache";
import type { ExecutionConfig, GrafservBase } from "postgraphile/grafserv";
import {
  type DefinitionNode,
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  parse,
  Source,
  type ValidationRule,
  validate,
} from "postgraphile/graphql";
import type { OperationLimits } from "../../src/shared/protocol/messages.ts";
import { refusal } from "./complexity.ts";
import { withoutHint } from "./hints.ts";
import { assertShortOrders } from "./order-limit.ts";

type Read =
  | { readonly document: DocumentNode; readonly errors?: never }
  | { readonly errors: readonly GraphQLError[] };

/** A field with its arguments, braces and alias is 3–10 tokens. */
const tokensPerField = 20;
/** A token takes 300 bytes with its share of the tree, so this is 30 MB. */
const maxTokensKept = 100_000;
const maxDocumentsKept = 500;

/**
 * Replaces grafserv's own function, which parses whatever it is given and keeps 500 results. A megabyte of `a a a …`, or 500
 * texts that failed to parse, exceeds a cell's heap. Measured with GraphQL.js 16.15: 250 bytes of heap per byte of text.
 */
function documentReader(
  schema: GraphQLSchema,
  rules: () => readonly ValidationRule[],
  limits: OperationLimits,
): (text: string) => Read {
  const maxTokens = limits.fields * tokensPerField;
  const kept = new LRUCache<string, Read & object>({ max: maxDocumentsKept, maxSize: maxTokensKept });

  return (text) => {
    const known = kept.get(text);
    if (known !== undefined) return known;
    if (countsMore(text, "#", maxTokens)) throw tooLong(maxTokens);
    let document: DocumentNode;
    try {
      document = parse(new Source(text, "GraphQL HTTP Request"), { maxTokens });
    } catch (error) {
      if (!(error instanceof GraphQLError))
        throw refusal("OPERATION_TOO_COMPLEX", "The operation is nested too deeply.");
      // GraphQL.js marks this error by its message only.
      if (error.message.includes(`more that ${maxTokens} tokens`)) throw tooLong(maxTokens);
      return { errors: [error] };
    }
    const errors = [...validate(schema, document, rules()), ...rootless(schema, document)];
    if (errors.length > 0) return { errors: limits.introspection ? errors : errors.map(withoutHints) };
    const read = { document };
    // The text counts as well: it may consist mostly of blanks.
    kept.set(text, read, {
      size: Math.max(1, document.tokenCount ?? maxTokens, Math.ceil(text.length / 300)),
    });
    return read;
  };
}

/**
 * Reports operations whose root type the schema lacks: GraphQL.js leaves that to execution, where Grafast would plan first and
 * then fail. Subscriptions are refused with a status of their own, as they are where the schema has some.
 */
function rootless(schema: GraphQLSchema, { definitions }: DocumentNode): GraphQLError[] {
  if (definitions.some(isSubscription) && !schema.getSubscriptionType()) {
    throw refusal("BAD_REQUEST", "The schema has no subscriptions.");
  }
  return definitions.flatMap((definition) =>
    definition.kind !== "OperationDefinition" || schema.getRootType(definition.operation)
      ? []
      : [new GraphQLError(`The schema has no ${definition.operation}s.`, { nodes: definition })],
  );
}

const isSubscription = (each: DefinitionNode): boolean =>
  each.kind === "OperationDefinition" && each.operation === "subscription";

const tooLong = (maxTokens: number): Error =>
  refusal("OPERATION_TOO_COMPLEX", `The operation has more than ${maxTokens} tokens or comments.`);

/** Counts comments, which are tokens that the parser's own limit does not count. */
function countsMore(text: string, character: string, most: number): boolean {
  let count = 0;
  for (let at = text.indexOf(character); at !== -1; at = text.indexOf(character, at + 1)) {
    count += 1;
    if (count > most) return true;
  }
  return false;
}

function withoutHints(error: GraphQLError): GraphQLError {
  const message = withoutHint(error.message);
  return message === error.message ? error : new GraphQLError(message, { nodes: error.nodes ?? null });
}

type GetExecutionConfig = (
  this: GrafservBase,
  context: Partial<Grafast.RequestContext>,
) => ExecutionConfig | PromiseLike<ExecutionConfig>;

/**
 * Wraps `original` so that documents are read within `limits` and validated by the rules that hold at that time. A preset's own
 * reader, such as Envelop's, takes precedence.
 */
export function readingWithin(
  limits: OperationLimits,
  rules: () => readonly ValidationRule[],
  original: GetExecutionConfig,
): GetExecutionConfig {
  const readers = new WeakMap<GraphQLSchema, ReturnType<typeof documentReader>>();
  const withReader = (config: ExecutionConfig, longLists: readonly string[] | null): ExecutionConfig => {
    const { schema } = config;
    let read = readers.get(schema);
    if (read === undefined) {
      read = documentReader(schema, rules, limits);
      readers.set(schema, read);
    }
    if (longLists === null) return { ...config, parseAndValidate: read };
    const reader = read;
    const parseAndValidate = (text: string): Read => {
      const result = reader(text);
      if ("document" in result) assertShortOrders(schema, result.document, longLists);
      return result;
    };
    return { ...config, parseAndValidate };
  };
  return function getExecutionConfig(context) {
    const config = original.call(this, context);
    const longLists = context.rowhouse?.longLists ?? null;
    return "then" in config
      ? config.then((later) => withReader(later, longLists))
      : withReader(config, longLists);
  };
}
