/** One connection, and what it is doing. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Connections, Held, Place, State } from "./connections.ts";
import type { Current } from "./refusal.ts";

/** The connection that a request came over, as its app sees it. */
export interface Peer {
  /** Of whom is at the other end; of IPv6 the network. */
  readonly address: string;
  /** Whether that is a trusted proxy. */
  readonly isProxy: boolean;
  /** May be told when the request has come whole. */
  received(): void;
  /** To be told when the answer's "close" comes. A listener for it here would cost more than all else that is done for a request here. */
  answered(): void;
}

export class Connection implements Held, Peer {
  readonly socket: Socket;
  readonly address: string;
  readonly isProxy: boolean;
  readonly #connections: Connections<Connection>;
  /** Null until there is room for it. */
  place: Place<Connection> | null = null;
  #current: Current | null = null;
  #requests = 0;

  constructor(socket: Socket, address: string, isProxy: boolean, connections: Connections<Connection>) {
    this.socket = socket;
    this.address = address;
    this.isProxy = isProxy;
    this.#connections = connections;
  }

  get current(): Current | null {
    return this.#current;
  }

  get requests(): number {
    return this.#requests;
  }

  get bytesRead(): number {
    return this.socket.bytesRead;
  }

  /** While the head of another request is coming, it is idle: Node tells of whole ones only. */
  get state(): State {
    if (this.#current === null) return "receiving";
    const { incoming, outgoing } = this.#current;
    if (outgoing.closed) return "idle";
    // Without a socket it waits for the answer to an earlier request.
    const isAtWork = incoming.complete || outgoing.headersSent || outgoing.socket === null;
    return isAtWork ? "working" : "receiving";
  }

  /** The head of a request has come. */
  begin(incoming: IncomingMessage, outgoing: ServerResponse): void {
    this.#current = { incoming, outgoing };
    this.#requests += 1;
  }

  received(): void {
    if (this.place !== null) this.#connections.received(this.place);
  }

  answered(): void {
    if (this.place !== null) this.#connections.answered(this.place);
  }

  leave(): void {
    if (this.place !== null) this.#connections.leave(this.place);
  }
}
