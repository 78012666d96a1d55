/** Removes "Did you mean …?" from GraphQL.js's errors: it names what introspection would not. */
import { GraphQLError, type GraphQLFormattedError } from "postgraphile/graphql";

type Mask = (error: GraphQLError) => GraphQLError | GraphQLFormattedError;

const opening = " Did you mean ";
/** The hint as GraphQL.js (16.15) writes it; the names in it come from the schema and contain no blank and no quote. */
const hint = /^ Did you mean (?:[a-z ]{1,60} )?"\w+(?: \{ \.\.\. \})?"(?:,? (?:or )?"\w+")*\?$/;

/**
 * `message` without the hint at its end. A client's own value that reads like one is kept, because it stands before GraphQL.js's
 * words. The pattern is tried once, however often those words occur.
 */
export function withoutHint(message: string): string {
  const at = message.lastIndexOf(opening);
  return at !== -1 && hint.test(message.slice(at)) ? message.slice(0, at) : message;
}

/**
 * Wraps `mask` for use while introspection is disabled. Needed beside validation, because values of variables are checked when an
 * operation begins. Errors that a field's own code throws have a path, and are left unchanged.
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
