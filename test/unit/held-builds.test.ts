import { describe, expect, it } from "vitest";
import { failure, failurePauseMs, HeldBuilds } from "../../src/fleet/held-builds.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { dedicatedKey, pooledKey, tenantId } from "../../src/shared/kernel/ids.ts";

const sha = "ab".repeat(32);
const pooled = pooledKey(sha);
const own = dedicatedKey(tenantId("acme"), sha);
const minuteMs = 60_000;
const wanting = (name: string, version = "1") => ({ tenant: tenantId(name), version });
const failed = new HostError("BUILD_FAILED", "no such luck");

describe("the pause after failed builds", () => {
  it("doubles with each, within bounds", () => {
    const pauses = [1, 2, 3, 4, 7, 8, 1_000].map((failures) => failurePauseMs({ failures, lastMs: 0 }, 0));
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, minuteMs, minuteMs, minuteMs]);
  });

  it("is at most a quarter shorter by chance", () => {
    expect(failurePauseMs({ failures: 1, lastMs: 0 }, 1)).toBe(750);
    expect(failurePauseMs({ failures: 100, lastMs: 0 }, 1)).toBe(45_000);
  });

  it("starts over if nothing has failed for ten minutes", () => {
    const known = { failures: 5, lastMs: 0 };
    expect(failure(known, 10 * minuteMs - 1).failures).toBe(6);
    expect(failure(known, 10 * minuteMs).failures).toBe(1);
  });
});

describe("a key that could not be built", () => {
  it("is held back until the pause is over, and longer each time", () => {
    const held = new HeldBuilds(() => 0);
    expect(held.refusal(own, wanting("acme"), 0)).toBeUndefined();
    held.note(own, wanting("acme"), failed, 0);
    expect(held.refusal(own, wanting("acme"), 999)).toMatchObject({
      code: "BUILD_FAILED",
      message: `${own} is held back for 1 s because its build failed: no such luck`,
      retryAfterSeconds: 1,
    });
    expect(held.refusal(own, wanting("acme"), 1_000)).toBeUndefined();
    held.note(own, wanting("acme"), failed, 1_000);
    expect(held.refusal(own, wanting("acme"), 2_999)?.message).toMatch(/because 2 of its builds failed/);
    expect(held.refusal(own, wanting("acme"), 3_000)).toBeUndefined();
  });

  it("may be tried by others until it has failed for two tenants", () => {
    const held = new HeldBuilds(() => 0);
    held.note(pooled, wanting("a"), failed, 0);
    expect(held.refusal(pooled, wanting("a"), 1)).toBeDefined();
    expect(held.refusal(pooled, wanting("b"), 1)).toBeUndefined();
    held.note(pooled, wanting("b"), failed, 1);
    expect(held.refusal(pooled, wanting("c"), 2)).toBeDefined();
    // Others are another key.
    expect(held.refusal(own, wanting("a"), 2)).toBeUndefined();
  });

  it("may be tried again by each tenant whose schemas have changed since its refusal", () => {
    const held = new HeldBuilds(() => 0);
    for (const name of ["a", "b"]) held.note(pooled, wanting(name), failed, 0);
    expect(held.refusal(pooled, wanting("c", "7"), 1)).toBeDefined();
    expect(held.refusal(pooled, wanting("c", "8"), 1)).toBeUndefined();
    held.note(pooled, wanting("c", "8"), failed, 1);
    expect(held.refusal(pooled, wanting("c", "8"), 2)).toBeDefined();
    expect(held.refusal(pooled, wanting("a", "1"), 2)).toBeDefined();
    expect(held.refusal(pooled, wanting("a", "2"), 2)).toBeUndefined();
  });

  it("is forgotten when it is built, or when selected", () => {
    const held = new HeldBuilds(() => 0);
    held.note(own, wanting("acme"), failed, 0);
    held.note(pooled, wanting("a"), failed, 0);
    held.forget(own);
    expect(held.refusal(own, wanting("acme"), 1)).toBeUndefined();
    expect(held.forgetWhere((key) => key === own)).toBe(0);
    expect(held.forgetWhere(() => true)).toBe(1);
    expect(held.refusal(pooled, wanting("a"), 1)).toBeUndefined();
  });
});
