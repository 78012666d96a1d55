import { describe, expect, it } from "vitest";
import { marks, Sentinel, tenantNamed } from "../support/sentinel.ts";

describe("a sentinel", () => {
  it.each<[keyof typeof marks, string, string]>([
    ["canaries", "acme", '{"label":"canary_globex one"}'],
    ["canaries", "acme", "permission denied for schema CANARY_GLOBEX"],
    ["demo", "acme", '{"name":"Globex anvil"}'],
    ["demo", "acme", '{"name":"Ada of Globex"}'],
    ["demo", "acme", '{"email":"grace@globex.example"}'],
    ["demo", "acme", "permission denied for schema t0007_app"],
  ])("(%s) throws if %s is answered %s", (kind, tenant, answer) => {
    const sentinel = new Sentinel(marks[kind]);
    expect(() => sentinel.see(tenant, answer)).toThrow(/saw what belongs to/);
    expect(() => sentinel.see(null, answer)).toThrow(/nobody saw/);
    expect(sentinel).toMatchObject({ answers: 2, own: 0, leaks: [expect.anything(), expect.anything()] });
  });

  it("counts the own marks that it has seen", () => {
    const sentinel = new Sentinel(marks.demo);
    sentinel.see("acme", '{"name":"Acme anvil","email":"ada@acme.example"}');
    sentinel.see("acme", '{"data":null}');
    expect(sentinel).toMatchObject({ answers: 2, own: 1, leaks: [] });
  });

  it("recognises the tenant that a request names", () => {
    expect(tenantNamed("/graphql", { host: "acme.localhost:5678" })).toBe("acme");
    expect(tenantNamed("/graphql", { host: "ACME.example." })).toBe("acme");
    expect(tenantNamed("/t/acme/graphql", {})).toBe("acme");
    expect(tenantNamed("/graphql", { "x-tenant": "acme" })).toBe("acme");
    expect(tenantNamed("/graphql", {})).toBeNull();
  });
});
