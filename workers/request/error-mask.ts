/** Errors as a client may see them: the database's own text in development, only an id to find them by in production. */
import { randomUUID } from "node:crypto";
import { isSafeError, SafeError } from "postgraphile/grafast";
import { GraphQLError, type GraphQLFormattedError } from "postgraphile/graphql";
import { codeOf, messageOf } from "../../src/shared/kernel/errors.ts";

export type Log = (level: "debug" | "info" | "warn" | "error", message: string) => void;

export interface ErrorMask {
  /** For errors thrown before an operation runs. */
  readonly early: (error: unknown) => unknown;
  /** For errors in an answer. */
  readonly late: (error: GraphQLError) => GraphQLError | GraphQLFormattedError;
}

export function errorMask(production: boolean, log: Log): ErrorMask {
  const hide = (error: unknown): { message: string; errorId: string } => {
    const errorId = randomUUID();
    log("warn", `masked GraphQL error ${errorId}: ${messageOf(error)}`);
    return { message: `An error occurred (logged with id ${errorId})`, errorId };
  };
  return {
    early(error) {
      if (!production || error instanceof GraphQLError) return error;
      if (error instanceof Error && isSafeError(error)) return error;
      const { message, errorId } = hide(error);
      return new SafeError(message, { errorId });
    },
    late(error) {
      const original = error.originalError;
      if (original === undefined || original === null || original instanceof GraphQLError) return error;
      const { locations, path } = error;
      const as = (message: string, extensions: Record<string, unknown>): GraphQLFormattedError => ({
        message,
        ...(locations === undefined ? {} : { locations }),
        ...(path === undefined ? {} : { path }),
        extensions,
      });
      if (isSafeError(original)) return as(original.message, { ...original.extensions });
      if (!production) {
        const code = codeOf(original);
        return as(original.message, code === undefined ? {} : { code });
      }
      const { message, errorId } = hide(original);
      return as(message, { errorId });
    },
  };
}
