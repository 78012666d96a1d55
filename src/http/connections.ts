/**
 * Who is connected, and who goes where there is no room for one more: decided from what each connection has brought so
 * far, without I/O and without a clock.
 *
 * Working connections are never given up for others. Of the rest those go first that cost their clients least: of an address the
 * longest idle one, then the one that has been receiving longest without getting on. Where the whole listener is full, that is
 * one of the address that holds most of them; a proxy's, which brings many clients, are the last.
 *
 * A usual request on a kept connection costs two comparisons: where a connection stands in its list is put right when it is looked at,
 * once for each time that it has got on. So no newcomer goes through all the others, and a flood makes none of them dearer.
 */
import { Node, Yallist } from "yallist";

/** Idle between two requests; receiving from its first moment, or the end of a head, until the request has come whole; working until it is answered. */
export type State = "idle" | "receiving" | "working";

/** What is asked of a connection that may have to go. */
export interface Held {
  readonly state: State;
  /** Heads that have come over it. */
  readonly requests: number;
  /** Bytes that have come over it. */
  readonly bytesRead: number;
}

/** Why there was no room: its address holds as many as it may, or the listener does. */
export type Shortage = "address" | "full";

export type Admission<Connection extends Held> =
  | { readonly kind: "refused"; readonly shortage: Shortage }
  | { readonly kind: "admitted"; readonly place: Place<Connection>; readonly gone: Gone<Connection> | null };

/** One that has lost its place to a newcomer. */
export interface Gone<Connection extends Held> {
  readonly connection: Connection;
  readonly shortage: Shortage;
}

export interface ConnectionsOptions {
  readonly most: number;
  readonly mostOfAddress: number;
}

/** One connection's place. */
export class Place<Connection extends Held> {
  readonly connection: Connection;
  readonly address: Address<Connection>;
  readonly node: Node<Place<Connection>>;
  /** `requests` and `bytesRead` when it was last looked at. */
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
  /** All of its connections. */
  held = 0;
  /** Those that had an answer and, when last looked at, no other request; all that are idle are here. */
  readonly idle = new Yallist<Place<Connection>>();
  /** Those that had no answer yet, or part of another request. Whoever was seen at work is in neither list. */
  readonly receiving = new Yallist<Place<Connection>>();

  constructor(name: string, isProxy: boolean) {
    this.name = name;
    this.isProxy = isProxy;
    this.node = new Node<Address<Connection>>(this);
  }
}

/** A body that has brought less than this since it was last looked at has not got on: a byte now and then is no progress. */
const stepBytes = 16 * 1024;

export class Connections<Connection extends Held> {
  readonly #most: number;
  readonly #mostOfAddress: number;
  readonly #addresses = new Map<string, Address<Connection>>();
  /** Addresses by how many connections of theirs are in lists, those longest unchanged first. Those of proxies are in the first whatever they hold. */
  readonly #byListed: Yallist<Address<Connection>>[] = [];
  /** No list behind this one has anything in it. */
  #highest = 0;
  #size = 0;

  constructor({ most, mostOfAddress }: ConnectionsOptions) {
    this.#most = most;
    this.#mostOfAddress = mostOfAddress;
  }

  /** Takes `connection` in, if need be in another's place, which has none any more then; or refuses it. */
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
    // Looked for again: it may have lost its last connection just now.
    const address = this.#addresses.get(name) ?? new Address<Connection>(name, isProxy);
    this.#addresses.set(name, address);
    const place = new Place(connection, address);
    address.held += 1;
    this.#size += 1;
    address.receiving.pushNode(place.node);
    this.#file(address);
    return { kind: "admitted", place, gone };
  }

  /** A request has come whole. */
  received({ node, address }: Place<Connection>): void {
    // In the other list it may stay: it will be back there soon.
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

  /** Any number of times. */
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
      // Where it had fewer than it seemed, or has got on, it may be another's turn.
      if (place !== null && this.#fullest() === fullest) return place;
    }
  }

  /** An address with most in its lists; of several the one whose turn it is. */
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

  /** The first of `list` that is in `state` and has not got on since it was last looked at; puts right where those before it stand. */
  #firstOf(list: Yallist<Place<Connection>>, state: State): Place<Connection> | null {
    for (let node = list.head; node !== undefined; node = list.head) {
      const place = node.value;
      const { connection, address } = place;
      const { state: now, requests, bytesRead } = connection;
      if (now === "working") {
        this.#unlist(address, node);
        continue;
      }
      const gotOn = now === "idle" ? requests !== place.requests : bytesRead - place.bytes >= stepBytes;
      if (now === state && !gotOn) return place;
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

  /** Puts `address` where it belongs, behind the others there. */
  #file(address: Address<Connection>): void {
    const { idle, receiving, isProxy, node } = address;
    const listed = idle.length + receiving.length;
    if (listed === 0) {
      node.list?.removeNode(node);
      return;
    }
    const rank = isProxy ? 0 : listed;
    if (rank > this.#highest) this.#highest = rank;
    // The lists become more by one at a time, as what an address has does.
    this.#byListed[rank] ??= new Yallist<Address<Connection>>();
    this.#byListed[rank].pushNode(node);
  }
}
