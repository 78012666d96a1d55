/**
 * Who is connected, and which connection is given up when there is no room for another. Decided from what each connection has
 * received so far, without I/O and without a clock.
 *
 * Working connections are never given up. Of the others, those go first whose loss costs the client least: of an address the
 * longest idle connection, then the one that has been receiving longest without progress. If the whole listener is full, the address that
 * holds most connections loses one; proxies, which bring many clients, come last.
 *
 * A request on a kept connection costs two comparisons. A connection's position in its list is corrected only when it is looked at,
 * once for each time it has made progress. So admitting a connection never walks all the others, and a flood does not make it more expensive.
 */
import { Node, Yallist } from "yallist";

/**
 * `idle` between two requests; `receiving` from the connection's start, or the end of a head, until the request is complete; `working` until
 * it is answered.
 */
export type State = "idle" | "receiving" | "working";

/** What decides whether a connection may be given up. */
export interface Held {
  readonly state: State;
  /** Request heads received. */
  readonly requests: number;
  /** Bytes received. */
  readonly bytesRead: number;
}

/** Why there was no room: the address, or the whole listener, has as many connections as it may. */
export type Shortage = "address" | "full";

export type Admission<Connection extends Held> =
  | { readonly kind: "refused"; readonly shortage: Shortage }
  | { readonly kind: "admitted"; readonly place: Place<Connection>; readonly gone: Gone<Connection> | null };

/** A connection that has lost its place to a new one. */
export interface Gone<Connection extends Held> {
  readonly connection: Connection;
  readonly shortage: Shortage;
}

export interface ConnectionsOptions {
  readonly most: number;
  readonly mostOfAddress: number;
}

/** An admitted connection's place in the lists. */
export class Place<Connection extends Held> {
  readonly connection: Connection;
  readonly address: Address<Connection>;
  readonly node: Node<Place<Connection>>;
  /** The connection's `requests` and `bytesRead` when it was last looked at. */
  requests = 0;
  bytes = 0;
  isGone = false;

  constructor(connection: Connection, address: Address<Connection>) {
    this.connection = connection;
    this.address = address;
    this.node = new Node<Place<Connection>>(this);
  }
}

class Address<Connection extends Held> {
  readonly name: string;
  readonly isProxy: boolean;
  readonly node: Node<Address<Connection>>;
  /** The number of its connections. */
  held = 0;
  /** Connections that had been answered and had no further request when last looked at. Every idle connection is here. */
  readonly idle = new Yallist<Place<Connection>>();
  /** Connections that had no answer yet, or part of another request. Those seen working are in neither list. */
  readonly receiving = new Yallist<Place<Connection>>();

  constructor(name: string, isProxy: boolean) {
    this.name = name;
    this.isProxy = isProxy;
    this.node = new Node<Address<Connection>>(this);
  }
}

/** Fewer new bytes of a body than this are no progress, so that a byte now and then does not keep a connection. */
const stepBytes = 16 * 1024;

export class Connections<Connection extends Held> {
  readonly #most: number;
  readonly #mostOfAddress: number;
  readonly #addresses = new Map<string, Address<Connection>>();
  /** Addresses by the number of their listed connections, the longest unchanged first. Proxies are all in the first list. */
  readonly #byListed: Yallist<Address<Connection>>[] = [];
  /** All lists after this one are empty. */
  #highest = 0;
  #size = 0;

  constructor({ most, mostOfAddress }: ConnectionsOptions) {
    this.#most = most;
    this.#mostOfAddress = mostOfAddress;
  }

  /** Admits `connection`, if need be in place of another one, or refuses it. */
  admit(connection: Connection, name: string, isProxy = false): Admission<Connection> {
    const known = this.#addresses.get(name);
    let gone: Gone<Connection> | null = null;
    if (known !== undefined && !known.isProxy && known.held >= this.#mostOfAddress) {
      gone = this.#giveUp(this.#leastOf(known), "address");
      if (gone === null) return { kind: "refused", shortage: "address" };
    } else if (this.#size >= this.#most) {
      gone = this.#giveUp(this.#leastOfAll(), "full");
      if (gone === null) return { kind: "refused", shortage: "full" };
    }
    // Looked up again, because it may have lost its last connection above.
    const address = this.#addresses.get(name) ?? new Address<Connection>(name, isProxy);
    this.#addresses.set(name, address);
    const place = new Place(connection, address);
    address.held += 1;
    this.#size += 1;
    address.receiving.pushNode(place.node);
    this.#file(address);
    return { kind: "admitted", place, gone };
  }

  /** A request has arrived completely. */
  received({ node, address }: Place<Connection>): void {
    // In the idle list it may stay: it will be idle again soon.
    if (node.list === address.receiving) this.#unlist(address, node);
  }

  /** A request has been answered. */
  answered(place: Place<Connection>): void {
    const { node, address, isGone } = place;
    if (node.list === address.idle || isGone) return;
    place.requests = place.connection.requests;
    address.idle.pushNode(node);
    this.#file(address);
  }

  /** May be called any number of times. */
  leave(place: Place<Connection>): void {
    if (place.isGone) return;
    const { node, address } = place;
    place.isGone = true;
    address.held -= 1;
    this.#size -= 1;
    this.#unlist(address, node);
    if (address.held === 0) this.#addresses.delete(address.name);
  }

  #giveUp(place: Place<Connection> | null, shortage: Shortage): Gone<Connection> | null {
    if (place === null) return null;
    this.leave(place);
    return { connection: place.connection, shortage };
  }

  #leastOfAll(): Place<Connection> | null {
    for (;;) {
      const fullest = this.#fullest();
      if (fullest === null) return null;
      const place = this.#leastOf(fullest);
      // If some of its connections had made progress, another address may now hold most.
      if (place !== null && this.#fullest() === fullest) return place;
    }
  }

  /** The address with most listed connections; among equals the one unchanged for longest. */
  #fullest(): Address<Connection> | null {
    for (; this.#highest > 0; this.#highest -= 1) {
      const found = this.#byListed[this.#highest]?.head;
      if (found !== undefined) return found.value;
    }
    return this.#byListed[0]?.head?.value ?? null;
  }

  #leastOf(address: Address<Connection>): Place<Connection> | null {
    return this.#firstOf(address.idle, "idle") ?? this.#firstOf(address.receiving, "receiving");
  }

  /** The first of `list` that is in `state` without progress since it was last looked at. Moves those before it to where they belong. */
  #firstOf(list: Yallist<Place<Connection>>, state: State): Place<Connection> | null {
    for (let node = list.head; node !== undefined; node = list.head) {
      const place = node.value;
      const { connection, address } = place;
      const { state: now, requests, bytesRead } = connection;
      if (now === "working") {
        this.#unlist(address, node);
        continue;
      }
      const progressed = now === "idle" ? requests !== place.requests : bytesRead - place.bytes >= stepBytes;
      if (now === state && !progressed) return place;
      place.requests = requests;
      place.bytes = bytesRead;
      (now === "idle" ? address.idle : address.receiving).pushNode(node);
      this.#file(address);
    }
    return null;
  }

  #unlist(address: Address<Connection>, node: Node<Place<Connection>>): void {
    if (node.list === undefined) return;
    node.list.removeNode(node);
    this.#file(address);
  }

  /** Moves `address` to the end of the list that it belongs to. */
  #file(address: Address<Connection>): void {
    const { idle, receiving, isProxy, node } = address;
    const listed = idle.length + receiving.length;
    if (listed === 0) {
      node.list?.removeNode(node);
      return;
    }
    const rank = isProxy ? 0 : listed;
    if (rank > this.#highest) this.#highest = rank;
    // An address gains one connection at a time, so at most one list is missing.
    this.#byListed[rank] ??= new Yallist<Address<Connection>>();
    this.#byListed[rank].pushNode(node);
  }
}
