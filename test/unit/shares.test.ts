import { describe, expect, it } from "vitest";
import { Shares } from "../../workers/shares.ts";

const never = new AbortController().signal;

/** Whether what `take` gave has been reached by now. */
async function reached(turn: Promise<void> | null): Promise<boolean> {
  const open = Symbol();
  return turn === null || (await Promise.race([turn, Promise.resolve(open)])) !== open;
}

describe("shares of a pool", () => {
  it("are all of it for a tenant that is alone, and all but one of several", async () => {
    const shares = new Shares(3, 10_000);
    const alone = [1, 2, 3].map(() => shares.take("a", never));
    expect(alone).toEqual([null, null, null]);
    const fourth = shares.take("a", never);
    expect(await reached(fourth)).toBe(false);

    expect(shares.take("b", never)).toBeNull();
    // What it had beyond its share is not handed on.
    shares.give("a");
    expect(await reached(fourth)).toBe(false);
    shares.give("a");
    expect(await reached(fourth)).toBe(true);
    expect([shares.take("b", never), await reached(shares.take("b", never))]).toEqual([null, false]);
  });

  it("are one at least", async () => {
    const shares = new Shares(1, 10_000);
    expect([shares.take("a", never), shares.take("b", never)]).toEqual([null, null]);
    expect(await reached(shares.take("a", never))).toBe(false);
  });

  it("go to those that wait in their order, and past those that have left", async () => {
    const shares = new Shares(1, 10_000);
    const leaving = new AbortController();
    expect(shares.take("a", never)).toBeNull();
    const [first, second, third] = [leaving.signal, never, never].map((signal) => shares.take("a", signal));
    leaving.abort();
    await expect(first).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(shares.take("a", leaving.signal)).rejects.toMatchObject({ code: "CANCELLED" });
    shares.give("a");
    expect([await reached(second ?? null), await reached(third ?? null)]).toEqual([true, false]);
    shares.give("a");
    expect(await reached(third ?? null)).toBe(true);
    shares.give("a");
    expect(shares.take("a", never)).toBeNull();
  });

  it("are waited for no longer than the time", async () => {
    const shares = new Shares(1, 20);
    expect(shares.take("a", never)).toBeNull();
    await expect(shares.take("a", never)).rejects.toMatchObject({ code: "NO_CAPACITY" });
    shares.give("a");
    expect(shares.take("a", never)).toBeNull();
  });
});
