/** One connection and its state. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Connections, Held, Place, State } from "./connections.ts";
import type { Current } from "./refusal.ts";

/** The connection of a request, as the app sees it. */
export interface Peer {
  /** The remote address; for IPv6 its network. */
  readonly address: string;
  /** Whether the remote address is a trusted proxy's. */
  readonly isProxy: boolean;
  /** May be called when the request has arrived completely. */
  received(): void;
  /**
   * To be called when the answer emits "close". The app listens for that event anyway, and a second listener would cost more than all other
   * bookkeeping here.
   */
  answered(): void;
}

export class Connection implements Held, Peer {
  readonly socket: Socket;
  readonly address: string;
  readonly isProxy: boolean;
  readonly #connections: Connections<Connection>;
  /** Null until it is admitted. */
  place: Place<Connection> | null = null;
  #current: Current | null = null;
  #requests = 0;
  #isUpgraded = false;

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

  /** Idle even while the next head is arriving, because Node reports complete heads only. */
  get state(): State {
    if (this.#isUpgraded) return "working";
    if (this.#current === null) return "receiving";
    const { incoming, outgoing } = this.#current;
    if (outgoing.closed) return "idle";
    // Without a socket, the answer waits for the one to an earlier, pipelined request.
    const isAtWork = incoming.complete || outgoing.headersSent || outgoing.socket === null;
    return isAtWork ? "working" : "receiving";
  }

  /** The head of a request has arrived. */
  begin(incoming: IncomingMessage, outgoing: ServerResponse): void {
    this.#current = { incoming, outgoing };
    this.#requests += 1;
  }

  /** It is no HTTP connection any more; it is not given up for another. */
  upgrade(): void {
    this.#isUpgraded = true;
    this.received();
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
