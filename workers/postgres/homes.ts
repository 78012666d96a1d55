/** Which of a pool's connections a tenant prefers. */
import type { Borrower } from "./connection.ts";

/** How many places a tenant has in an order of its own: its home, and where it goes if that is busy. */
const maxChoices = 3;

/**
 * The places that tenants prefer, by rendezvous hashing: each place has a weight for each tenant, and the heaviest is the tenant's
 * home. The order follows from the tenant's id alone, so it is the same in every cell and host, without their knowing of each other,
 * and after a restart; a larger pool moves only the tenants whose home becomes one of the new places.
 */
export class Homes {
  readonly #places: number;
  /** As long-lived as the tenants' bindings, whose cache is bounded. */
  readonly #known = new WeakMap<Borrower, readonly number[]>();

  constructor(places: number) {
    this.#places = places;
  }

  /** The indexes of the places that the borrower prefers, its home first. */
  of(borrower: Borrower): readonly number[] {
    const known = this.#known.get(borrower);
    if (known !== undefined) return known;
    const tenant = hashOf(borrower.tenant);
    const places = Array.from({ length: this.#places }, (_, place) => place);
    const weight = (place: number): number => mixed(tenant ^ Math.imul(place + 1, 0x9e3779b1));
    const order = places.sort((a, b) => weight(b) - weight(a) || a - b).slice(0, maxChoices);
    this.#known.set(borrower, order);
    return order;
  }
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash;
}

/** The last step of MurmurHash3, after which each bit depends on all of them; unsigned. */
function mixed(hash: number): number {
  let mix = hash ^ (hash >>> 16);
  mix = Math.imul(mix, 0x85ebca6b);
  mix ^= mix >>> 13;
  mix = Math.imul(mix, 0xc2b2ae35);
  return (mix ^ (mix >>> 16)) >>> 0;
}
