import pg from "pg";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { CancellationSource } from "../../src/shared/kernel/cancellation.ts";
import { Place, Places } from "../../workers/postgres/places.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const overdueMs = 1_000;
let places: Places;
/** Ends the work that the only place is held for. */
let endWork: () => void;

beforeEach(() => {
  // No connection is opened here.
  places = new Places({ poolSize: 1, poolReserve: 0, overdueMs }, () => new pg.Pool({ max: 1 }));
  const [only] = places.all;
  const work = Promise.withResolvers<void>();
  endWork = work.resolve;
  if (only !== undefined) void places.during(only, () => work.promise);
});

const take = async (tenant: string, signal?: CancellationSource): Promise<Place> =>
  await places.take(tenant, [0], true, signal);

/** The place is free, and nobody who has given up is in line for it. */
async function expectFree(): Promise<void> {
  endWork();
  await vi.advanceTimersByTimeAsync(0);
  expect(places.take("next", [0], true)).toBeInstanceOf(Place);
}

it("a request that finds every place held for no request waits for the first that is returned", async () => {
  const waiting = take("t1");
  endWork();
  const place = await waiting;
  expect(place.holder).toBe("t1");
  places.release(place);
  await expectFree();
});

it("a request waits for a place that is held for no request no longer than the limit", async () => {
  const refused = expect(take("t1")).rejects.toMatchObject({ code: "NO_CAPACITY" });
  await vi.advanceTimersByTimeAsync(overdueMs);
  await refused;
  await expectFree();
});

it("a cancelled request stops waiting for a place at once", async () => {
  const stop = new CancellationSource();
  const cancelled = expect(take("t1", stop)).rejects.toMatchObject({ code: "CANCELLED" });
  stop.abort();
  await cancelled;
  await expect(take("t2", stop)).rejects.toMatchObject({ code: "CANCELLED" });
  await expectFree();
});

it("closing ends the wait for a place", async () => {
  const refused = expect(take("t1")).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  places.close();
  await refused;
});
