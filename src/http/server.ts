/** A listening socket for an app: it limits connections, and closes without losing requests. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Observe } from "../observability/observation.ts";
import type { ListenerSnapshot } from "../observability/status.ts";
import { codeOf, HostError, messageOf } from "../shared/kernel/errors.ts";
import { Connection, type Peer } from "./connection.ts";
import { Connections, type Gone, type Shortage, type State } from "./connections.ts";
import { renderRawFailure } from "./error-response.ts";
import { networkOf } from "./network.ts";
import { addressBusy, dismiss, maxHeadBytes, refuse, turnAway } from "./refusal.ts";
import { opensWebSocket } from "./request-head.ts";

export interface Listening {
  readonly url: string;
  readonly port: number;
  snapshot(): ListenerSnapshot;
  /** Stops accepting, gives requests in flight at most `drainMs` to end, then closes what is left. */
  close(drainMs: number): Promise<void>;
}

/** Answers `incoming` with `outgoing`, and tells `peer` when that is done. If it rejects, the connection is destroyed. */
export type Serve = (incoming: IncomingMessage, outgoing: ServerResponse, peer: Peer) => Promise<void>;

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** The most connections at a time, and the most from one address; 256 by default. */
  readonly connections?: number;
  readonly addressConnections?: number;
  /** Whether an address is that of a proxy, which brings many clients. */
  isProxy?(address: string): boolean;
  /** Called with an address each time it loses a connection, or is refused one, because it has as many as it may. */
  onCrowded?(address: string): void;
  /** Takes over connections that ask to become WebSockets; others' offers are ignored. Without it the app refuses them. */
  readonly upgrade?: Upgrade;
}

/** Takes over a connection; it must end it. `head` is what has come after the request. */
export type Upgrade = (incoming: IncomingMessage, socket: Socket, head: Buffer, peer: Peer) => void;

const serverOptions = {
  maxHeaderSize: maxHeadBytes,
  /** Against clients that send a byte now and then. The deadline for a body is the app's. */
  headersTimeout: 15_000,
  requestTimeout: 120_000,
  connectionsCheckingInterval: 5_000,
  /** Longer than the 60 s for which load balancers usually keep an idle connection, so that they close it and never race us. */
  keepAliveTimeout: 72_000,
  /** The app refuses such requests itself, in JSON like every failure. */
  requireHostHeader: false,
  /** Even if NODE_OPTIONS says otherwise. */
  insecureHTTPParser: false,
} as const;

/** How often a closing server looks for connections that have become idle; Node does so only once. */
const idleSweepMs = 50;
/** The most refused connections that are still read from for a moment, so that the refusal reaches the client. */
const maxTurnedAway = 256;
/**
 * The most sockets open beside the admitted connections: those refused and those given up stay for some turns of the event loop. Beyond
 * that, Node drops new connections without an answer.
 */
const maxLeaving = 1_024;

/**
 * Connections that the kernel queues for us, up to `somaxconn`. libuv accepts one per turn of the event loop: with Node's default of 511, a
 * burst of a few thousand fills the queue, and the kernel makes further clients wait a second for a retry, or resets them.
 */
const backlog = 4_096;

/** Serves requests with `serve`; port 0 takes any free port. Throws `CONFIG_INVALID` if the address cannot be listened on. */
export async function listen(serve: Serve, options: ListenOptions, observe: Observe): Promise<Listening> {
  const { upgrade } = options;
  const server = createServer(
    upgrade === undefined ? serverOptions : { ...serverOptions, shouldUpgradeCallback: opensWebSocket },
  );
  const door = new Door(options);
  server.maxConnections = door.most + maxLeaving;
  server.on("connection", (socket) => door.enter(socket));
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const connection = door.connectionOf(incoming.socket);
    // The connection has been refused.
    if (connection === undefined) return;
    // Node's parser takes a request line without a version for HTTP/0.9, and still reads headers and a body after it.
    if (incoming.httpVersionMajor !== 1) {
      refuse(new Error("not HTTP/1"), incoming.socket, null);
      return;
    }
    connection.begin(incoming, outgoing);
    if (!server.listening) outgoing.shouldKeepAlive = false;
    serve(incoming, outgoing, connection).catch(() => outgoing.destroy());
  };
  server.on("request", onRequest);
  // By default Node asks for the body before the head has been checked; see read-body.ts.
  server.on("checkContinue", onRequest);
  // Node's own answer has no body.
  server.on("checkExpectation", onRequest);
  server.on("connect", (_, socket) => {
    socket.on("error", () => {});
    dismiss(socket, noTunnel);
  });
  if (upgrade !== undefined) followUpgrades(server, door, upgrade);
  server.on("clientError", (error, socket) => {
    refuse(error, socket, door.connectionOf(socket)?.current ?? null);
  });

  await listening(server, options);
  // Without a listener, an error such as too many open files would end the process.
  server.on("error", (error) => observe({ kind: "http.error", error }));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new HostError("INTERNAL", "no address to listen on");
  const { port } = bound;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  let closing: Promise<void> | undefined;
  return {
    url: `http://${host}:${port}`,
    port,
    snapshot: () => door.snapshot(),
    close: (drainMs) => {
      closing ??= close(server, drainMs);
      door.announceEnd();
      return closing;
    },
  };
}

function followUpgrades(server: Server, door: Door, upgrade: Upgrade): void {
  server.on("upgrade", (incoming, socket, head) => {
    const connection = door.connectionOf(socket);
    // The connection has been refused.
    if (connection === undefined) return;
    connection.upgrade();
    upgrade(incoming, connection.socket, head, connection);
  });
}

const noTunnel = renderRawFailure(
  new HostError("BAD_REQUEST", "CONNECT is not supported: this is not a proxy."),
);
const noRoom: Readonly<Record<Shortage, string>> = {
  address: renderRawFailure(addressBusy()),
  full: renderRawFailure(new HostError("SERVER_BUSY")),
};

/** Admits connections while there is room, and otherwise carries out what `Connections` decides. */
class Door {
  readonly most: number;
  readonly #connections: Connections<Connection>;
  readonly #bySocket = new Map<Duplex, Connection>();
  readonly #isProxy: (address: string) => boolean;
  readonly #onCrowded: (address: string) => void;
  readonly #refused: Record<Shortage, number> = { address: 0, full: 0 };
  #turnedAway = 0;

  constructor({
    connections = 256,
    addressConnections = 256,
    isProxy = () => false,
    onCrowded = () => {},
  }: ListenOptions) {
    this.most = connections;
    this.#connections = new Connections({ most: connections, mostOfAddress: addressConnections });
    this.#isProxy = isProxy;
    this.#onCrowded = onCrowded;
  }

  connectionOf(socket: Duplex): Connection | undefined {
    return this.#bySocket.get(socket);
  }

  enter(socket: Socket): void {
    const { remoteAddress } = socket;
    // It has been closed already.
    if (remoteAddress === undefined) {
      socket.destroy();
      return;
    }
    const isProxy = this.#isProxy(remoteAddress);
    const address = networkOf(remoteAddress);
    const connection = new Connection(socket, address, isProxy, this.#connections);
    const admission = this.#connections.admit(connection, address, isProxy);
    if (admission.kind === "refused") {
      this.#refused[admission.shortage] += 1;
      if (admission.shortage === "address") this.#onCrowded(address);
      this.#turnAway(socket, noRoom[admission.shortage]);
      return;
    }
    if (admission.gone !== null) this.#end(admission.gone);
    connection.place = admission.place;
    this.#bySocket.set(socket, connection);
    socket.on("close", () => {
      this.#bySocket.delete(socket);
      connection.leave();
    });
  }

  /** After an answer that says "keep-alive" clients send another request, which would be lost when the connection closes. */
  announceEnd(): void {
    for (const { current } of this.#bySocket.values()) {
      if (current !== null && !current.outgoing.headersSent) current.outgoing.shouldKeepAlive = false;
    }
  }

  snapshot(): ListenerSnapshot {
    const connections: Record<State, number> = { idle: 0, receiving: 0, working: 0 };
    for (const { state } of this.#bySocket.values()) connections[state] += 1;
    return { connections, refused: { ...this.#refused } };
  }

  #turnAway(socket: Socket, text: string): void {
    if (this.#turnedAway >= maxTurnedAway) {
      dismiss(socket, text);
      return;
    }
    this.#turnedAway += 1;
    socket.on("close", () => {
      this.#turnedAway -= 1;
    });
    turnAway(socket, text);
  }

  #end({ connection: { socket, state, address }, shortage }: Gone<Connection>): void {
    this.#bySocket.delete(socket);
    if (shortage === "address") this.#onCrowded(address);
    // Its client is not waiting for anything, and must expect an idle connection to be closed.
    if (state === "idle") socket.destroy();
    else {
      this.#refused[shortage] += 1;
      dismiss(socket, noRoom[shortage]);
    }
  }
}

async function listening(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  try {
    server.listen({ host, port, backlog });
    await once(server, "listening");
  } catch (error) {
    throw new HostError("CONFIG_INVALID", `cannot listen on ${host} port ${port}: ${advice(error)}`, {
      cause: error,
    });
  }
}

function advice(error: unknown): string {
  switch (codeOf(error)) {
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
