import { describe, expect, it } from "vitest";
import { BuildQueue, heldForMs, isSuspect, type StrikeRecord, strike } from "../../src/fleet/build-queue.ts";
import { decideAdmission } from "../../src/shared/kernel/semaphore.ts";

describe("a build", () => {
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

describe("the places for builds", () => {
  it("go to waiters in the order of arrival, also after failures, and are all free at the end", async () => {
    const admission = new BuildQueue({ concurrency: 2, queue: 10 });
    const order: number[] = [];
    const ends: PromiseWithResolvers<void>[] = [];
    const runs = Array.from({ length: 6 }, (_, index) =>
      admission
        .run(async () => {
          order.push(index);
          const end = Promise.withResolvers<void>();
          ends.push(end);
          await end.promise;
          if (index % 2 === 0) throw new Error("failed");
        })
        .catch(() => undefined),
    );
    expect(admission.state).toEqual({ running: 2, queued: 4 });
    for (let index = 0; index < runs.length; index += 1) {
      await Promise.resolve();
      ends[index]?.resolve();
      await runs[index];
      await new Promise((resolve) => setImmediate(resolve));
      expect(admission.state.running).toBeLessThanOrEqual(2);
    }
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
    expect(admission.state).toEqual({ running: 0, queued: 0 });
  });

  it("are not taken by a newcomer while one is being handed over", async () => {
    const admission = new BuildQueue({ concurrency: 1, queue: 10 });
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const running = admission.run(() => first.promise);
    const waiting = admission.run(async () => order.push("waited"));
    first.resolve();
    await running;
    const late = admission.run(async () => order.push("came late"));
    await Promise.all([waiting, late]);
    expect(order).toEqual(["waited", "came late"]);
  });

  it("go first to whoever has waited longest, whatever attempts failed meanwhile", async () => {
    const admission = new BuildQueue({ concurrency: 1, queue: 10 });
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const running = admission.run(() => first.promise, 0);
    const waiting = [
      admission.run(async () => order.push("at 20"), 20),
      admission.run(async () => order.push("at 30"), 30),
      admission.run(async () => order.push("at 10, again"), 10),
      admission.run(async () => order.push("at 20, later"), 20),
    ];
    first.resolve();
    await Promise.all([running, ...waiting]);
    expect(order).toEqual(["at 10, again", "at 20", "at 20, later", "at 30"]);
  });

  it("also go to newcomers, however many older ones return", async () => {
    const admission = new BuildQueue({ concurrency: 1, queue: 10 });
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const running = admission.run(() => first.promise, 0);
    const waiting = [50, 9, 8, 7, 6].map((sinceMs) =>
      admission.run(async () => order.push(`at ${sinceMs}`), sinceMs),
    );
    first.resolve();
    await Promise.all([running, ...waiting]);
    expect(order).toEqual(["at 8", "at 9", "at 50", "at 6", "at 7"]);
  });

  it("are refused when the queue is full", async () => {
    const admission = new BuildQueue({ concurrency: 1, queue: 1 });
    const first = Promise.withResolvers<void>();
    const runs = [admission.run(() => first.promise), admission.run(async () => undefined)];
    await expect(admission.run(async () => undefined)).rejects.toMatchObject({ code: "BUILD_QUEUE_FULL" });
    first.resolve();
    await Promise.all(runs);
  });
});

describe("a key that was active when threads ended", () => {
  const minuteMs = 60_000;
  const certainly = (times: number): StrikeRecord | undefined => {
    let record: StrikeRecord | undefined;
    for (let count = 0; count < times; count += 1) record = strike(record, true, 1_000);
    return record;
  };

  it.each([
    ["never", undefined, 0],
    ["once", certainly(1), 0],
    ["twice", certainly(2), 5_000],
    ["three times", certainly(3), 10_000],
    ["seven times", certainly(7), 160_000],
    ["forty times", certainly(40), 5 * minuteMs],
  ])("alone, %s, is held back for a time that grows up to a limit", (_, record, pauseMs) => {
    expect(heldForMs(record, 1_000)).toBe(pauseMs);
    expect(heldForMs(record, 1_000 + pauseMs / 2)).toBe(pauseMs / 2);
    expect(heldForMs(record, 1_000 + pauseMs)).toBe(0);
    expect(heldForMs(record, 1_000 + pauseMs * 2)).toBe(0);
  });

  it("among others is never delayed for it, but suspected", () => {
    let record: StrikeRecord | undefined;
    for (let count = 0; count < 20; count += 1) record = strike(record, false, 1_000);
    expect(record).toEqual({ crashBackoff: 20, certain: 0, lastMs: 1_000 });
    expect(heldForMs(record, 1_000)).toBe(0);
    expect([isSuspect(record, 1_000), isSuspect(undefined, 1_000)]).toEqual([true, false]);
  });

  it("is forgiven after ten minutes", () => {
    const record = certainly(9);
    const laterMs = 1_000 + 10 * minuteMs;
    expect([isSuspect(record, laterMs - 1), isSuspect(record, laterMs)]).toEqual([true, false]);
    expect(strike(record, true, laterMs)).toEqual({ crashBackoff: 1, certain: 1, lastMs: laterMs });
    expect(strike(record, true, laterMs - 1)).toMatchObject({ crashBackoff: 10, certain: 10 });
  });
});
