/** Provides `requestContext.node` for presets that were written for PostGraphile's Node server. */
import type {} from "postgraphile/grafserv/node";
import type { RequestTask } from "../../src/shared/protocol/messages.ts";

type NodeContext = Grafast.RequestContext["node"];

export type RequestHead = Pick<RequestTask, "method" | "path" | "query">;

/** Whether `context` has the members of Node's context; only the request's method, target and headers are provided. */
function isNodeContext(context: object): context is NodeContext {
  return "req" in context && "res" in context;
}

/** The host answers, so anything that a preset wrote to `res` or heard from it would be lost; it gets an error instead. */
const noResponse = new Proxy(
  {},
  {
    get(_target, name) {
      // Awaiting or printing `res` looks these up.
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      throw new Error(
        `a preset used res.${name}, which does not exist in Rowhouse: the host sends the response`,
      );
    },
  },
);

/** The `node` of a request's context; `headers` are those that the cell receives. */
export function nodeContext(
  { method, path, query }: RequestHead,
  headers: Record<string, string>,
): NodeContext {
  const context = {
    req: { method, url: query === "" ? path : `${path}?${query}`, headers, httpVersion: "1.1" },
    res: noResponse,
  };
  // Node's other members have no value here.
  if (!isNodeContext(context)) throw new TypeError("not a request");
  return context;
}
