/** A request as presets that were written for PostGraphile's Node server look for it: `requestContext.node`. */
import type {} from "postgraphile/grafserv/node";
import type { RequestTask } from "../../src/shared/protocol/messages.ts";

type NodeContext = Grafast.RequestContext["node"];

export type RequestHead = Pick<RequestTask, "method" | "path" | "query">;

/** What of Node's request there is: its method, target and headers. */
function isNodeContext(context: object): context is NodeContext {
  return "req" in context && "res" in context;
}

/** An answer is the host's: what a preset would write into it, or hear from it, comes to nothing, and it is told so. */
const noResponse = new Proxy(
  {},
  {
    get(_target, name) {
      // Whoever waits for it, or shows it, asks whether it is a promise, or how it is shown.
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      throw new Error(`a preset asked for res.${name}: in Rowhouse the host answers, and there is no res`);
    },
  },
);

/** The `node` of a request's context; `headers` are those that a cell is told of. */
export function nodeContext(
  { method, path, query }: RequestHead,
  headers: Record<string, string>,
): NodeContext {
  const context = {
    req: { method, url: query === "" ? path : `${path}?${query}`, headers, httpVersion: "1.1" },
    res: noResponse,
  };
  // Of the other members that Node's own would have, none has a value here.
  if (!isNodeContext(context)) throw new TypeError("not a request");
  return context;
}
