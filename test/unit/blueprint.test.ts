import { describe, expect, it } from "vitest";
import { type BlueprintInput, blueprintKey, tenantKey } from "../../src/shape/blueprint.ts";
import { shapeHash, tenantId } from "../../src/shared/kernel/ids.ts";
import { searchPathText } from "../../src/shared/postgres/search-path.ts";

const base: BlueprintInput = {
  shape: shapeHash("a".repeat(64)),
  schemas: [
    { logical: "app", physical: "acme_app" },
    { logical: "crm", physical: "acme_crm" },
  ],
  sharedSchemas: ["public", "extensions"],
  settings: { relay: true, style: "plain" },
  api: "shop",
  mode: "live",
  database: "main",
  presetVersion: "1",
  hostVersion: "0.1.0",
};

const changes: Record<string, Partial<BlueprintInput>> = {
  shape: { shape: shapeHash("b".repeat(64)) },
  "a logical name": {
    schemas: [
      { logical: "app", physical: "acme_app" },
      { logical: "sales", physical: "acme_crm" },
    ],
  },
  "the order of schemas": { schemas: [...base.schemas].reverse() },
  "one schema fewer": { schemas: base.schemas.slice(0, 1) },
  "a shared schema": { sharedSchemas: ["public"] },
  "the order of shared schemas": { sharedSchemas: ["extensions", "public"] },
  "a setting's value": { settings: { relay: false, style: "plain" } },
  "a setting's type": { settings: { relay: "true", style: "plain" } },
  "a setting's name": { settings: { relays: true, style: "plain" } },
  "one setting more": { settings: { ...base.settings, extra: true } },
  api: { api: "admin" },
  "no api": { api: null },
  mode: { mode: "test" },
  "no mode": { mode: null },
  "api and mode exchanged": { api: "live", mode: "shop" },
  database: { database: "other" },
  "preset version": { presetVersion: "2" },
  "host version": { hostVersion: "0.2.0" },
};

describe("blueprint key", () => {
  it("is bp: and a sha256 digest", () => {
    expect(blueprintKey(base)).toMatch(/^bp:[0-9a-f]{64}$/);
  });

  it.each(Object.entries(changes))("changes with %s", (_what, change) => {
    expect(blueprintKey({ ...base, ...change })).not.toBe(blueprintKey(base));
    const acme = tenantId("acme");
    expect(tenantKey(acme, { ...base, ...change })).not.toBe(tenantKey(acme, base));
  });

  it("changes with what is left out, in whatever order, and a dedicated one's does not", () => {
    const leaving = (...leftOut: string[]): BlueprintInput => ({ ...base, leftOut });
    const keys = [base, leaving("a"), leaving("b"), leaving("a", "b")].map(blueprintKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(blueprintKey(leaving("b", "a"))).toBe(keys[3]);
    expect(blueprintKey(leaving())).toBe(keys[0]);
    const acme = tenantId("acme");
    expect(tenantKey(acme, leaving("a"))).toBe(tenantKey(acme, base));
  });

  it("has no two changes in common", () => {
    const keys = Object.values(changes).map((change) => blueprintKey({ ...base, ...change }));
    expect(new Set(keys).size).toBe(keys.length);
  });

  it("is the same for settings and fields written in another order", () => {
    const reordered = Object.fromEntries(Object.entries(base).reverse()) as unknown as BlueprintInput;
    const key = blueprintKey({ ...reordered, settings: { style: "plain", relay: true } });
    expect(key).toBe(blueprintKey(base));
  });

  it("ignores the tenants' physical names, unlike a dedicated key", () => {
    const globex = {
      ...base,
      schemas: [
        { logical: "app", physical: "globex_app" },
        { logical: "crm", physical: "globex_crm" },
      ],
    };
    expect(blueprintKey(globex)).toBe(blueprintKey(base));
    expect(tenantKey(tenantId("acme"), globex)).not.toBe(tenantKey(tenantId("acme"), base));
  });
});

describe("dedicated key", () => {
  it("is tn:, the tenant and a sha256 digest, and never equals the pooled one", () => {
    const key = tenantKey(tenantId("acme"), base);
    expect(key).toMatch(/^tn:acme:[0-9a-f]{64}$/);
    expect(blueprintKey(base)).not.toContain(key.slice(-64));
  });

  it("names the tenant, so that no two tenants share one", () => {
    expect(tenantKey(tenantId("acme"), base)).not.toBe(tenantKey(tenantId("globex"), base));
  });
});

describe("search path", () => {
  it("quotes names that need it and ends in pg_temp", () => {
    expect(searchPathText(["acme", "Acme App", 'a"b', "select", "public"])).toBe(
      'acme, "Acme App", "a""b", "select", public, pg_temp',
    );
  });

  it.each(["", "a\0b", "$user"])("refuses %j", (schema) => {
    expect(() => searchPathText(["acme", schema])).toThrow(/search_path cannot contain/);
  });
});
