import { describe, expect, it } from "vitest";
import {
  type Asker,
  mayAcquire,
  nextOf,
  openPlaces,
  type PoolState,
} from "../../src/shared/kernel/fair-share.ts";

const pool = (granted: number, more: Partial<PoolState> = {}): PoolState => ({
  size: 4,
  reserve: 4,
  granted,
  several: true,
  ...more,
});
const asker = (held: number, more: Partial<Asker> = {}): Asker => ({
  held,
  slow: false,
  nested: false,
  ...more,
});
const slow = { slow: true };
const nested = { nested: true };
const bare = { reserve: 0 };

describe("open to whoever asks", () => {
  it.each<[string, Partial<PoolState>, number]>([
    ["is all of the size, where there is a reserve", {}, 4],
    ["is all of it for a single tenant, where there is none", { reserve: 0, several: false }, 4],
    ["is all but one of it for several", bare, 3],
    ["is the only one", { size: 1, reserve: 0 }, 1],
    ["is one of two", { size: 2, reserve: 0 }, 1],
  ])("%s", (_, more, open) => {
    expect(openPlaces(pool(0, more))).toBe(open);
  });
});

describe("one more is for", () => {
  it.each<[string, PoolState, Asker, boolean]>([
    ["a tenant alone, up to the size", pool(3, { several: false }), asker(3), true],
    ["no tenant alone, beyond the size", pool(4, { several: false }), asker(4), false],
    ["one of several, up to the size", pool(3), asker(3), true],
    ["a slow one, up to the size", pool(3), asker(3, slow), true],
    ["a tenant that holds none, beyond the size", pool(4), asker(0), true],
    ["no tenant that holds one, beyond the size", pool(4), asker(1), false],
    ["a slow tenant that holds none, beyond the size", pool(6), asker(0, slow), true],
    ["no slow tenant, the last", pool(7), asker(0, slow), false],
    ["a tenant that holds none, the last", pool(7), asker(0), true],
    ["nobody, beyond the last", pool(8), asker(0), false],
    ["a request that holds one, beyond the size", pool(4), asker(4, nested), true],
    [
      "a slow tenant's request that holds one, beyond the size",
      pool(6),
      asker(4, { ...slow, ...nested }),
      true,
    ],
    ["a request that holds one, the last", pool(7), asker(1, nested), true],
    ["no slow tenant's request that holds one, the last", pool(7), asker(1, { ...slow, ...nested }), false],
    ["no tenant that holds one, the last of no reserve", pool(3, bare), asker(1), false],
    ["a tenant that holds none, the last of no reserve", pool(3, bare), asker(0, slow), true],
    ["a request that holds one, the last of no reserve", pool(3, bare), asker(1, nested), true],
    [
      "no slow tenant's such request, the last of no reserve",
      pool(3, bare),
      asker(1, { ...slow, ...nested }),
      false,
    ],
    ["no request that holds one, beyond the last", pool(8), asker(1, nested), false],
    ["a single tenant, the last of no reserve", pool(3, { reserve: 0, several: false }), asker(3), true],
    ["nobody, beyond no reserve", pool(4, bare), asker(0), false],
    ["a slow tenant, the only one that there is", pool(0, { size: 1, reserve: 0 }), asker(0, slow), true],
    ["a tenant that holds none, the second of two", pool(1, { size: 2, reserve: 0 }), asker(0), true],
    ["no tenant that holds one, the second of two", pool(1, { size: 2, reserve: 0 }), asker(1), false],
    ["no slow tenant, the only one of a reserve", pool(4, { reserve: 1 }), asker(0, slow), false],
  ])("%s", (_, state, who, may) => {
    expect(mayAcquire(state, who)).toBe(may);
  });
});

describe("the next is", () => {
  it.each<[string, PoolState, readonly Asker[], number]>([
    ["nobody where nobody waits", pool(0), [], -1],
    ["nobody where all is granted", pool(8), [asker(0)], -1],
    ["nobody where what is free is not for those that wait", pool(5), [asker(1), asker(2)], -1],
    ["whose turn it is, of those that hold as many", pool(3), [asker(1), asker(1)], 0],
    ["who holds fewest, whosever turn it is", pool(3), [asker(2), asker(1), asker(0), asker(0)], 2],
    ["who is not slow, of those that hold as many", pool(3), [asker(1, slow), asker(1, slow), asker(1)], 2],
    ["who holds fewest, slow or not", pool(3), [asker(1), asker(0, slow)], 1],
    ["whose turn it is, of slow ones", pool(3), [asker(1, slow), asker(1, slow)], 0],
    ["the first that may have the last", pool(7), [asker(0, slow), asker(0), asker(0)], 1],
    ["who holds none before a request that holds one", pool(4), [asker(1, nested), asker(0, slow)], 1],
    ["a request that holds one before its likes that do not", pool(4), [asker(1), asker(1, nested)], 1],
  ])("%s", (_, state, waiting, place) => {
    const next = nextOf(state, waiting);
    expect(next === undefined ? -1 : waiting.indexOf(next)).toBe(place);
  });
});
