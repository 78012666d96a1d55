import { setImmediate as turn } from "node:timers/promises";
import { expect, it } from "vitest";
import { CpuMeter } from "../../workers/cpu-meter.ts";

/** Keeps the thread busy. */
function work(ms: number): void {
  for (const endMs = performance.now() + ms; performance.now() < endMs; ) Math.random();
}

const figures = (meter: CpuMeter): Map<unknown, number> => {
  const times = meter.take();
  const found = new Map<unknown, number>();
  for (let at = 0; at < times.length; at += 2) found.set(times[at], Number(times[at + 1]));
  return found;
};

it("counts the time of a tenant's code until the loop turns or another tenant enters, and no idle time", async () => {
  const meter = new CpuMeter(() => undefined);
  const startMs = performance.now();
  meter.enter("acme");
  work(20);
  meter.enter("globex");
  work(10);
  await turn();
  const elapsedMs = performance.now() - startMs;
  // Nobody's.
  work(30);
  const busy = figures(meter);
  expect([...busy.keys()]).toEqual(["acme", "globex"]);
  expect(busy.get("acme")).toBeGreaterThanOrEqual(20);
  expect(busy.get("globex")).toBeGreaterThanOrEqual(10);
  expect((busy.get("acme") ?? 0) + (busy.get("globex") ?? 0)).toBeLessThanOrEqual(elapsedMs);
  expect(meter.take()).toEqual([]);
});

it("reports the time so far of a tenant that is still running, once", () => {
  const meter = new CpuMeter(() => undefined);
  const startMs = performance.now();
  meter.enter("acme");
  work(5);
  const first = figures(meter).get("acme") ?? 0;
  work(1);
  const second = figures(meter).get("acme") ?? 0;
  expect(first).toBeGreaterThanOrEqual(5);
  expect(second).toBeGreaterThanOrEqual(1);
  expect(first + second).toBeLessThanOrEqual(performance.now() - startMs);
});

it("reports code that ran for long, and no other", async () => {
  let long = 0;
  const meter = new CpuMeter(() => {
    long += 1;
  });
  meter.enter("acme");
  await turn();
  await turn();
  const before = long;
  meter.enter("acme");
  work(5);
  await turn();
  await turn();
  expect(long).toBe(before + 1);
});

it("splits the time of interleaved requests evenly until another tenant enters", async () => {
  const meter = new CpuMeter(() => undefined);
  const startMs = performance.now();
  meter.share(() => {
    meter.enter("acme");
    work(4);
    meter.enter("globex");
    meter.enter("acme");
  });
  work(8);
  meter.enter("initech");
  work(5);
  await turn();
  const elapsedMs = performance.now() - startMs;
  const busy = figures(meter);
  const [acme = 0, globex = 0, initech = 0] = ["acme", "globex", "initech"].map((name) => busy.get(name));
  expect(acme).toBeCloseTo(2 * globex, 6);
  expect(acme + globex).toBeGreaterThanOrEqual(12);
  expect(initech).toBeGreaterThanOrEqual(5);
  expect(acme + globex + initech).toBeLessThanOrEqual(elapsedMs);
});
