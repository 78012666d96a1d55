import { describe, expect, it } from "vitest";
import { Slots } from "../../src/fleet/cell/request-slots.ts";

describe("the slots of a cell", () => {
  it("belong to one request at a time, until there are none", () => {
    const slots = new Slots(3);
    const taken = [slots.acquire(), slots.acquire(), slots.acquire()];
    expect(new Set(taken)).toEqual(new Set([0, 1, 2]));
    expect(slots.taken).toBe(3);
    expect(() => slots.acquire()).toThrow(expect.objectContaining({ code: "NO_CAPACITY" }));
    slots.release(1);
    expect([slots.taken, slots.acquire()]).toEqual([2, 1]);
  });

  it("begin unmarked, and keep a mark until they are taken again", () => {
    const slots = new Slots(1);
    const slot = slots.acquire();
    expect(slots.marked(slot)).toBe(false);
    new Int8Array(slots.ledger)[slot] = 1;
    slots.release(slot);
    expect(slots.marked(slot)).toBe(true);
    slots.acquire();
    expect(slots.marked(slot)).toBe(false);
  });
});
