import { describe, expect, it } from "vitest";
import { SingleFlight } from "../../src/shared/kernel/single-flight.ts";

describe("a single flight", () => {
  it("is one run for all concurrent callers, and a new one afterwards", async () => {
    const flights = new SingleFlight<string, number>();
    let runs = 0;
    const work = async (): Promise<number> => {
      runs += 1;
      await Promise.resolve();
      return runs;
    };
    const [first, second, other] = [flights.run("a", work), flights.run("a", work), flights.run("b", work)];
    expect([flights.has("a"), flights.keys()]).toEqual([true, ["a", "b"]]);
    expect(await Promise.all([first, second])).toEqual([2, 2]);
    await other;
    expect([flights.has("a"), flights.keys()]).toEqual([false, []]);
    expect(await flights.run("a", work)).toBe(3);
  });

  it("shares a failure with all that wait, but not with those that come later", async () => {
    const flights = new SingleFlight<string, string>();
    const fail = async (): Promise<string> => {
      throw new Error("no");
    };
    const both = await Promise.allSettled([flights.run("a", fail), flights.run("a", fail)]);
    expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await flights.run("a", async () => "yes")).toBe("yes");
  });
});
