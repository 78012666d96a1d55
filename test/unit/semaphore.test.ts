import { describe, expect, it } from "vitest";
import {
  BoundedSemaphore,
  decideAdmission,
  type SemaphoreLimits,
} from "../../src/shared/kernel/semaphore.ts";

describe("work behind a semaphore", () => {
  const limits = { concurrency: 2, queue: 3 };

  it.each([
    ["runs where nothing does", { running: 0, queued: 0 }, "run"],
    ["runs where there is a place", { running: 1, queued: 0 }, "run"],
    ["waits where there is none", { running: 2, queued: 0 }, "queue"],
    ["waits behind those who wait, although a place is free", { running: 1, queued: 1 }, "queue"],
    ["waits in the last place", { running: 2, queued: 2 }, "queue"],
    ["is refused where too many wait", { running: 2, queued: 3 }, "refuse"],
    ["is refused where too many wait, although a place is free", { running: 0, queued: 3 }, "refuse"],
  ])("%s", (_, state, expected) => {
    expect(decideAdmission(state, limits)).toBe(expected);
  });

  it("is refused at once if none may wait", () => {
    expect(decideAdmission({ running: 1, queued: 0 }, { concurrency: 1, queue: 0 })).toBe("refuse");
  });
});

describe("the places of a semaphore", () => {
  const semaphore = (limits: SemaphoreLimits) => new BoundedSemaphore(limits, () => new Error("full"));

  it("go to waiters in the order of arrival, also after failures, and are all free at the end", async () => {
    const places = semaphore({ concurrency: 2, queue: 10 });
    const order: number[] = [];
    const ends: PromiseWithResolvers<void>[] = [];
    const runs = Array.from({ length: 6 }, (_, index) =>
      places
        .run(async () => {
          order.push(index);
          const end = Promise.withResolvers<void>();
          ends.push(end);
          await end.promise;
          if (index % 2 === 0) throw new Error("failed");
        })
        .catch(() => undefined),
    );
    expect(places.state).toEqual({ running: 2, queued: 4 });
    for (let index = 0; index < runs.length; index += 1) {
      await Promise.resolve();
      ends[index]?.resolve();
      await runs[index];
      await new Promise((resolve) => setImmediate(resolve));
      expect(places.state.running).toBeLessThanOrEqual(2);
    }
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
    expect(places.state).toEqual({ running: 0, queued: 0 });
  });

  it("are not taken by a newcomer while one is being handed over", async () => {
    const places = semaphore({ concurrency: 1, queue: 10 });
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const running = places.run(() => first.promise);
    const waiting = places.run(async () => order.push("waited"));
    first.resolve();
    await running;
    const late = places.run(async () => order.push("came late"));
    await Promise.all([waiting, late]);
    expect(order).toEqual(["waited", "came late"]);
  });

  it("go first to whoever has waited longest, whatever attempts failed meanwhile", async () => {
    const places = semaphore({ concurrency: 1, queue: 10 });
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const running = places.run(() => first.promise, 0);
    const waiting = [
      places.run(async () => order.push("at 20"), 20),
      places.run(async () => order.push("at 30"), 30),
      places.run(async () => order.push("at 10, again"), 10),
      places.run(async () => order.push("at 20, later"), 20),
    ];
    first.resolve();
    await Promise.all([running, ...waiting]);
    expect(order).toEqual(["at 10, again", "at 20", "at 20, later", "at 30"]);
  });

  it("also go to newcomers, however many older ones return", async () => {
    const places = semaphore({ concurrency: 1, queue: 10 });
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const running = places.run(() => first.promise, 0);
    const waiting = [50, 9, 8, 7, 6].map((sinceMs) =>
      places.run(async () => order.push(`at ${sinceMs}`), sinceMs),
    );
    first.resolve();
    await Promise.all([running, ...waiting]);
    expect(order).toEqual(["at 8", "at 9", "at 50", "at 6", "at 7"]);
  });

  it("are refused when the queue is full", async () => {
    const places = semaphore({ concurrency: 1, queue: 1 });
    const first = Promise.withResolvers<void>();
    const runs = [places.run(() => first.promise), places.run(async () => undefined)];
    await expect(places.run(async () => undefined)).rejects.toThrow("full");
    first.resolve();
    await Promise.all(runs);
  });
});
