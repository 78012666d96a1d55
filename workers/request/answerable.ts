/** Which operations a request may have. */
import { getOperationAST } from "postgraphile/graphql";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { liveHeader, liveQueriesOnly } from "../../src/shared/protocol/messages.ts";

/**
 * Throws `BAD_REQUEST` for a subscription in a plain request, whose answer would go on until the request's deadline, and for a mutation
 * where only a query is allowed.
 */
export function assertAnswerable({ document, operationName, requestContext }: Grafast.ExecutionArgs): void {
  const operation = getOperationAST(document, operationName)?.operation;
  const scope = requestContext?.rowhouse;
  if (operation === "subscription" && scope?.feed === null) {
    throw new HostError(
      "BAD_REQUEST",
      "A plain request cannot be a subscription: use a WebSocket or server-sent events.",
    );
  }
  if (operation === "mutation" && scope?.headers[liveHeader] === liveQueriesOnly) {
    throw new HostError("BAD_REQUEST", "A mutation needs a POST request.");
  }
}
