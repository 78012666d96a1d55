/** A listening socket for an app, and its orderly end. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { HostError, messageOf } from "../kernel/errors.ts";
import type { Observe } from "../kernel/observation.ts";
import { renderRawFailure } from "./failure.ts";

export interface Listening {
  readonly url: string;
  readonly port: number;
  /** Stops accepting, lets requests in flight end for at most `drainMs`, then cuts what is left. */
  close(drainMs: number): Promise<void>;
}

/** Answers `incoming` by `outgoing`; what it rejects with costs the connection. */
export type Serve = (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<void>;

const serverOptions = {
  maxHeaderSize: 16 * 1024,
  /** Against clients that send a byte now and then; the app's own deadline is the one of a body. */
  headersTimeout: 15_000,
  requestTimeout: 120_000,
  connectionsCheckingInterval: 5_000,
  /** Longer than the 60 s after which usual balancers let an idle connection go: they end it, and never race us. */
  keepAliveTimeout: 72_000,
  /** The app answers it in JSON, like every failure. */
  requireHostHeader: false,
  /** Also where NODE_OPTIONS says otherwise. */
  insecureHTTPParser: false,
} as const;

/** The latest request of a connection. */
interface Current {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

/** How often a server that closes looks for connections that have become idle: Node closes them only once. */
const idleSweepMs = 50;

/** Serves by `serve`; port 0 takes any free one. Throws `CONFIG_INVALID` where the address cannot be listened on. */
export async function listen(
  serve: Serve,
  address: { readonly host: string; readonly port: number },
  observe: Observe,
  mostConnections = 256,
): Promise<Listening> {
  const server = createServer(serverOptions);
  server.maxConnections = mostConnections;
  // Room for the next one: whoever wants to keep an idle connection makes another.
  server.on("drop", () => server.closeIdleConnections());
  const current = new WeakMap<Duplex, Current>();
  const sockets = new Set<Duplex>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    // Node's parser takes a first line without a version for HTTP/0.9, and reads headers and a body behind it.
    if (incoming.httpVersionMajor !== 1) {
      refuse(new Error("not HTTP/1"), incoming.socket, undefined);
      return;
    }
    current.set(incoming.socket, { incoming, outgoing });
    if (!server.listening) outgoing.shouldKeepAlive = false;
    serve(incoming, outgoing).catch(() => outgoing.destroy());
  };
  server.on("request", onRequest);
  // Node would invite the body before anyone has looked at the head; see read-body.ts.
  server.on("checkContinue", onRequest);
  server.on("clientError", (error, socket) => refuse(error, socket, current.get(socket)));

  await listening(server, address);
  // Without a listener, one connection too many would end the process.
  server.on("error", (error) => observe({ kind: "http.error", error }));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new HostError("INTERNAL", "no address to listen on");
  const { port } = bound;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  let closing: Promise<void> | undefined;
  return {
    url: `http://${host}:${port}`,
    port,
    close: (drainMs) => {
      closing ??= close(server, drainMs);
      // Answers that say "keep-alive" are followed by requests, and those are reset with the connection.
      for (const socket of sockets) {
        const outgoing = current.get(socket)?.outgoing;
        if (outgoing !== undefined && !outgoing.headersSent) outgoing.shouldKeepAlive = false;
      }
      return closing;
    },
  };
}

async function listening(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  try {
    server.listen({ host, port });
    await once(server, "listening");
  } catch (error) {
    throw new HostError("CONFIG_INVALID", `cannot listen on ${host} port ${port}: ${advice(error)}`, {
      cause: error,
    });
  }
}

function advice(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return "another process listens there; stop it or choose another port";
    case "EACCES":
      return "this user may not use that port; choose one above 1023";
    case "EADDRNOTAVAIL":
      return "this machine has no such address; 127.0.0.1 and 0.0.0.0 are always there";
    case "ENOTFOUND":
      return "the host name does not resolve";
    default:
      return messageOf(error);
  }
}

/** For what the parser gave up on, or what took too long to come. */
function refuse(error: Error, socket: Duplex, current: Current | undefined): void {
  if (!socket.writable || isReset(error)) {
    socket.destroy();
    return;
  }
  if (current !== undefined && !current.outgoing.writableFinished) {
    const { incoming, outgoing } = current;
    // What follows a whole request is at fault, not that request: it gets its own answer, and nothing comes behind it.
    if (incoming.complete) {
      socket.pause();
      outgoing.shouldKeepAlive = false;
      outgoing.once("close", () => socket.end(() => socket.destroy()));
      return;
    }
    // In the middle of an answer there is no place for another one.
    if (outgoing.headersSent) {
      socket.destroy();
      return;
    }
  }
  socket.end(renderRawFailure(refusalOf(error)), () => socket.destroy());
}

const codeOf = (error: Error): unknown => ("code" in error ? error.code : undefined);
const isReset = (error: Error): boolean => codeOf(error) === "ECONNRESET";

function refusalOf(error: Error): HostError {
  switch (codeOf(error)) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new HostError("DEADLINE");
    case "HPE_HEADER_OVERFLOW":
      return new HostError(
        "BAD_REQUEST",
        `The request's head is larger than ${serverOptions.maxHeaderSize} bytes.`,
      );
    default:
      return new HostError("BAD_REQUEST", "The request is not valid HTTP/1.1.");
  }
}

async function close(server: Server, drainMs: number): Promise<void> {
  const closed = once(server, "close");
  server.close();
  const sweep = setInterval(() => server.closeIdleConnections(), idleSweepMs);
  const cut = setTimeout(() => server.closeAllConnections(), drainMs);
  try {
    await closed;
  } finally {
    clearInterval(sweep);
    clearTimeout(cut);
  }
}
