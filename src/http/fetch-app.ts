/** Serves Hono apps on Node's server. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { HostError } from "../shared/kernel/errors.ts";
import type { Peer } from "./connection.ts";
import { renderFailure } from "./error-response.ts";
import type { Serve } from "./server.ts";

interface App {
  fetch(request: Request, env: object): Response | Promise<Response>;
}

/** Serves an app by Request and Response, which @hono/node-server converts. */
export function serveApp(app: App): Serve {
  const respond = getRequestListener((request, env) => app.fetch(request, env), {
    // For the URL of requests without a Host header, which the app then refuses.
    hostname: "localhost",
    overrideGlobalObjects: false,
    errorHandler: unreadable,
  });
  return (incoming, outgoing, peer) => {
    outgoing.on("close", () => peer.answered());
    return respond(incoming, outgoing);
  };
}

interface DirectApp<Bindings> {
  readonly routes: readonly { readonly method: string }[];
  fetch(request: Request, env: Bindings): Response | Promise<Response>;
}

/**
 * Serves an app that reads Node's request and writes Node's response itself, and routes by method alone. It finds both in its bindings,
 * which `begin` makes for each request. One `Request` is made for each
 * method that has a route: making one of each incoming request takes the front 0.8 µs. To the app all other methods are the same one, for
 * which only its routes for all methods match. HEAD is among them, which Hono would otherwise hand to the routes for GET, and TRACE, of
 * which no `Request` can be made.
 */
export function serveDirectly<Bindings>(
  app: DirectApp<Bindings>,
  begin: (incoming: IncomingMessage, outgoing: ServerResponse, peer: Peer) => Bindings,
): Serve {
  const requestOf = (method: string): Request => new Request("http://localhost/", { method });
  const requests = new Map(app.routes.map(({ method }) => [method, requestOf(method)]));
  const otherRequest = requestOf("OTHER");
  return async (incoming, outgoing, peer) => {
    const request = requests.get(incoming.method ?? "") ?? otherRequest;
    await app.fetch(request, begin(incoming, outgoing, peer));
  };
}

/** The answer to a request whose target and Host header make no URL. */
function unreadable(error: unknown): Response {
  const refusal = new HostError("BAD_REQUEST", "The request target or the Host header is not valid.", {
    cause: error,
  });
  const { status, headers, body } = renderFailure(refusal, null);
  return new Response(body, { status, headers: { ...headers, connection: "close" } });
}
