import { expect, it } from "vitest";
import { renewalReason } from "../../workers/postgres/renewals.ts";

const limits = { tenants: 100, ageMs: 1_000, memoryMb: 64 };
const fresh = { tenants: 99, ageMs: 999, memoryMb: 63 };

it.each([
  [{}, null],
  [{ tenants: 100 }, "tenants"],
  [{ ageMs: 1_000 }, "age"],
  [{ memoryMb: 64 }, "memory"],
  [{ memoryMb: null }, null],
  [{ tenants: 100, ageMs: 1_000, memoryMb: 64 }, "memory"],
])("a connection with %j is renewed for %s", (wear, reason) => {
  expect(renewalReason({ ...fresh, ...wear }, limits)).toBe(reason);
});

it("a limit of 0 never renews", () => {
  const none = { tenants: 0, ageMs: 0, memoryMb: 0 };
  expect(renewalReason({ tenants: 9_999, ageMs: 9e9, memoryMb: 9_999 }, none)).toBeNull();
});
