/** Which operations a request may have. */
import { getOperationAST } from "postgraphile/graphql";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { liveHeader, liveQueriesOnly } from "../../src/shared/protocol/messages.ts";

/**
 * Throws `BAD_REQUEST` for a subscription, whose answer would go on until the request's deadline, and for a mutation where there may be
 * queries only.
 */
export function assertAnswerable({ document, operationName, requestContext }: Grafast.ExecutionArgs): void {
  const operation = getOperationAST(document, operationName)?.operation;
  if (operation === "subscription") {
    throw new HostError(
      "BAD_REQUEST",
      "A request cannot be a subscription: subscribe to a query with @live, over a WebSocket or server-sent events.",
    );
  }
  if (operation === "mutation" && requestContext?.rowhouse?.headers[liveHeader] === liveQueriesOnly) {
    throw new HostError("BAD_REQUEST", "A mutation needs a POST request.");
  }
}
