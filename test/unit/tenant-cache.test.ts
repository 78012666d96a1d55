import { describe, expect, it } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { TenantRequest } from "../../workers/plugin-api/request.ts";
import { TenantCache } from "../../workers/plugin-api/tenant-cache.ts";

function request(tenant: string, settings: Record<string, string> = {}, tag = "1"): TenantRequest {
  const binding = {
    tenant: tenantId(tenant),
    searchPath: [],
    statementTag: tag,
    roles: [],
    prepares: false,
    notifies: false,
    guard: null,
  };
  const never = (): never => {
    throw new Error("no database here");
  };
  const signal = new AbortController().signal;
  return {
    tenant: binding.tenant,
    binding,
    role: null,
    settings,
    headers: {},
    identifyingHeaders: {},
    signal,
    query: never,
    transaction: never,
  };
}

describe("a TenantCache", () => {
  it("makes a value once for each tenant, schema revision and key", async () => {
    const cache = new TenantCache<string>({ max: 10, per: "tenant" });
    let made = 0;
    const get = (of: TenantRequest, key: string) =>
      cache.get(of, key, () => {
        made += 1;
        return `${of.tenant} ${made}`;
      });
    expect(await get(request("a"), "k")).toBe("a 1");
    expect(await get(request("b"), "k")).toBe("b 2");
    expect(await get(request("a", { role: "other" }), "k")).toBe("a 1");
    expect(await get(request("a"), "l")).toBe("a 3");
    expect(await get(request("a", {}, "2"), "k")).toBe("a 4");
  });

  it("shares a value only among equal settings, unless it is per tenant", async () => {
    const cache = new TenantCache<string>({ max: 10 });
    const get = (settings: Record<string, string>) =>
      cache.get(request("a", settings), "k", () => JSON.stringify(settings));
    await get({ role: "clerk", "jwt.claims.user": "1" });
    expect(await get({ "jwt.claims.user": "1", role: "clerk" })).toBe(
      '{"role":"clerk","jwt.claims.user":"1"}',
    );
    expect(await get({ role: "clerk", "jwt.claims.user": "2" })).toMatch(/"2"/);
    expect(await get({ role: "boss", "jwt.claims.user": "1" })).toMatch(/boss/);
    expect(cache.size).toBe(3);
  });

  it("separates requests by the headers that identify the caller", async () => {
    const cache = new TenantCache<string>({ max: 10 });
    const get = (identifyingHeaders: Record<string, string>) =>
      cache.get({ ...request("a"), identifyingHeaders }, "k", () => JSON.stringify(identifyingHeaders));
    expect(await get({ "x-locale": "de" })).toBe('{"x-locale":"de"}');
    expect(await get({ "x-locale": "fr" })).toBe('{"x-locale":"fr"}');
    expect(await get({ "x-locale": "de" })).toBe('{"x-locale":"de"}');
    // What is a header to one is a setting to the other.
    expect(await cache.get(request("a", { "x-locale": "de" }), "k", () => "setting")).toBe("setting");
  });

  it("separates keys whose concatenation would be the same text", async () => {
    const cache = new TenantCache<number>({ max: 10, per: "tenant" });
    expect(await cache.get(request("a", {}, "1"), '","x', () => 1)).toBe(1);
    expect(await cache.get(request("a", {}, '1","'), "x", () => 2)).toBe(2);
  });

  it("is bounded over all tenants", async () => {
    const cache = new TenantCache<number>({ max: 3 });
    for (let n = 0; n < 50; n += 1) await cache.get(request(`t${n}`), "k", () => n);
    expect(cache.size).toBe(3);
  });

  it("makes a value once for concurrent callers, and caches no failure", async () => {
    const cache = new TenantCache<number>({ max: 3 });
    const gate = Promise.withResolvers<number>();
    let made = 0;
    const make = () => {
      made += 1;
      return gate.promise;
    };
    const first = cache.get(request("a"), "k", make);
    const second = cache.get(request("a"), "k", make);
    expect(made).toBe(1);
    gate.resolve(7);
    expect([await first, await second]).toEqual([7, 7]);

    const failing = cache.get(request("b"), "k", () => Promise.reject(new Error("cancelled")));
    // It was waiting for what another request began, and makes its own when that fails.
    const waiting = cache.get(request("b"), "k", () => 8);
    await expect(failing).rejects.toThrow("cancelled");
    expect(await waiting).toBe(8);
    expect(await cache.get(request("b"), "k", () => 9)).toBe(8);
  });

  it.each([
    ["a database's name", "main"],
    ["a context", { pgSettings: {} }],
    ["nothing", undefined],
  ])("refuses %s instead of a request", async (_, other) => {
    const cache = new TenantCache<number>({ max: 3 });
    await expect(cache.get(other as never, "k", () => 1)).rejects.toThrow(
      /needs the request that requestOf returned/,
    );
    expect(cache.size).toBe(0);
  });
});
