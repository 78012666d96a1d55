import { describe, expect, it } from "vitest";
import { AuthThrottle } from "../../src/http/admin/auth-throttle.ts";

describe("failed attempts", () => {
  const time = { ms: 0 };
  const start = () => {
    time.ms = 1;
    return new AuthThrottle({ most: 2, windowMs: 60_000, clock: { now: () => time.ms } });
  };
  const isRefused = (failures: AuthThrottle, address: string): boolean => {
    try {
      failures.assertFew(address);
      return false;
    } catch (error) {
      expect(error).toMatchObject({ code: "TOO_MANY_FAILURES" });
      return true;
    }
  };

  it("block an address after so many in a window that begins with the first of them", () => {
    const failures = start();
    failures.add("192.0.2.1");
    expect(isRefused(failures, "192.0.2.1")).toBe(false);
    time.ms += 50_000;
    failures.add("192.0.2.1");
    expect([isRefused(failures, "192.0.2.1"), isRefused(failures, "192.0.2.2")]).toEqual([true, false]);
    expect(() => failures.assertFew("192.0.2.1")).toThrow(expect.objectContaining({ retryAfterSeconds: 10 }));
    time.ms += 10_001;
    expect(isRefused(failures, "192.0.2.1")).toBe(false);
  });

  it.each([
    ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true],
    ["2001:db8:1:2::1", "2001:db8:1:3::1", false],
    ["2001:db8::1", "2001:db8:0:0:5::", true],
    ["fe80::1%eth0", "fe80::2%eth1", true],
    ["::ffff:192.0.2.1", "192.0.2.1", true],
    ["::ffff:192.0.2.1", "::ffff:192.0.2.2", false],
    ["::1", "2001:db8::1", false],
    ["", "192.0.2.1", false],
  ])("of %s also count for %s: %s", (one, other, same) => {
    const failures = start();
    failures.add(one);
    failures.add(one);
    expect(isRefused(failures, other)).toBe(same);
  });
});
