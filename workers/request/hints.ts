/** "Did you mean …?" at the end of GraphQL.js's errors: it names what introspection would not. */
import { GraphQLError, type GraphQLFormattedError } from "postgraphile/graphql";

type Mask = (error: GraphQLError) => GraphQLError | GraphQLFormattedError;

const opening = " Did you mean ";
/** As GraphQL.js (16.15) writes it; the names in it are of the schema, and hold no blank and no quote. */
const hint = /^ Did you mean (?:[a-z ]{1,60} )?"\w+(?: \{ \.\.\. \})?"(?:,? (?:or )?"\w+")*\?$/;

/**
 * `message` without the hint that it ends with. A client's own value that reads like one stays, as it stands in front of GraphQL.js's words,
 * and the pattern is tried once, however often those words come.
 */
export function withoutHint(message: string): string {
  const at = message.lastIndexOf(opening);
  return at !== -1 && hint.test(message.slice(at)) ? message.slice(0, at) : message;
}

/**
 * `mask`, for where introspection is off. Values of variables are looked at when an operation begins, and not when its document is validated. What a
 * field's own code says has the field's path, and is left as it is.
 */
export function hidingHints(mask: Mask): Mask {
  return (error) => {
    const masked = mask(error);
    const message = error.path === undefined ? withoutHint(masked.message) : masked.message;
    if (message === masked.message) return masked;
    if (!(masked instanceof GraphQLError)) return { ...masked, message };
    const { nodes = null, source = null, positions = null, extensions } = masked;
    return new GraphQLError(message, { nodes, source, positions, extensions });
  };
}
