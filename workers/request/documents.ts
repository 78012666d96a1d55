/** GraphQL documents: parsed within limits, and kept by what they weigh rather than by their number. */
import { LRUCache } from "lru-cache";
import type { ExecutionConfig, GrafservBase } from "postgraphile/grafserv";
import {
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
/** A token with its share of the tree takes 300 bytes: 30 MB. */
const maxTokensKept = 100_000;
const maxDocumentsKept = 500;

/**
 * Stands in for grafserv's own function, which parses whatever it is given and keeps 500 of the results: a megabyte of
 * `a a a …`, or what did not parse of 500 of them, is more than a cell's heap. Measured (GraphQL.js 16.15): 250 bytes of heap for a byte of text.
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
      // GraphQL.js has no other mark for it.
      if (error.message.includes(`more that ${maxTokens} tokens`)) throw tooLong(maxTokens);
      return { errors: [error] };
    }
    const errors = [...validate(schema, document, rules()), ...rootless(schema, document)];
    if (errors.length > 0) return { errors: limits.introspection ? errors : errors.map(withoutHints) };
    const read = { document };
    // A text may be mostly blanks.
    kept.set(text, read, {
      size: Math.max(1, document.tokenCount ?? maxTokens, Math.ceil(text.length / 300)),
    });
    return read;
  };
}

/** GraphQL.js leaves it to the execution to find that a schema has no subscriptions, and Grafast plans, and complains. */
function rootless(schema: GraphQLSchema, { definitions }: DocumentNode): GraphQLError[] {
  return definitions.flatMap((definition) =>
    definition.kind !== "OperationDefinition" || schema.getRootType(definition.operation)
      ? []
      : [new GraphQLError(`The schema has no ${definition.operation}s.`, { nodes: definition })],
  );
}

const tooLong = (maxTokens: number): Error =>
  refusal("OPERATION_TOO_COMPLEX", `The operation has more than ${maxTokens} tokens or comments.`);

/** Comments are tokens that the parser's own limit does not count. */
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

/** `original`, with documents read within `limits`, by what are the rules by then. A preset that brings its own reader, such as Envelop's, wins over it. */
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
