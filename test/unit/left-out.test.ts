import { describe, expect, it } from "vitest";
import { judgeHidden } from "../../src/decisions/left-out.ts";
import type { Dispensable } from "../../src/shape/shape.ts";

const tenant = { schemas: [{ logical: "app", physical: "acme" }] };

const version: Dispensable = {
  kind: "function",
  oid: "17000",
  schema: "acme",
  name: "version",
  arguments: "[]",
  finds: "pg_catalog.version",
};
const coin: Dispensable = {
  ...version,
  kind: "type",
  schema: "aside",
  name: "coin",
  arguments: "",
  finds: null,
};

describe("what is hidden", () => {
  it("is no matter where nothing is", () => {
    const nothing = { hidden: [], found: [], needed: [], dispensable: [] };
    expect(judgeHidden(tenant, nothing)).toEqual({ reason: null, leftOut: [], labels: [] });
  });

  it("is left out where the API need have none of it, by names that all tenants have", () => {
    const judged = judgeHidden(tenant, {
      hidden: ["function acme.version()", "type aside.coin"],
      found: ["pg_catalog.version", null],
      needed: [false, false],
      dispensable: [version, coin],
    });
    expect(judged.reason).toBeNull();
    expect(judged.leftOut).toEqual([
      {
        kind: "function",
        oid: "17000",
        schema: "acme",
        name: "version",
        reason: expect.stringMatching(/^function app\.version is not visible .* @name version$/),
      },
      {
        kind: "type",
        oid: "17000",
        schema: "aside",
        name: "coin",
        reason: expect.stringMatching(/^type aside\.coin .* sharedSchemas$/),
      },
    ]);
    const other = judgeHidden(
      { schemas: [{ logical: "app", physical: "globex" }] },
      {
        hidden: ["function globex.version()"],
        found: ["pg_catalog.version"],
        needed: [false],
        dispensable: [{ ...version, oid: "18000", schema: "globex" }],
      },
    );
    expect(other.labels).toEqual(judged.labels.slice(0, 1));
  });

  it("tells a schema that is not served from a served one of its name", () => {
    const label = (schema: string): readonly string[] =>
      judgeHidden(tenant, {
        hidden: ["type"],
        found: [null],
        needed: [false],
        dispensable: [{ ...coin, schema }],
      }).labels;
    expect(label("app")).not.toEqual(label("acme"));
  });

  it("keeps the tenant from being pooled where the API needs one thing of it, which the reason names", () => {
    const judged = judgeHidden(tenant, {
      hidden: ["function acme.version()", "table acme.pg_group"],
      found: ["pg_catalog.version", "pg_catalog.pg_group"],
      needed: [false, true],
      dispensable: [version],
    });
    expect(judged).toMatchObject({ leftOut: [], labels: [] });
    expect(judged.reason).toMatch(/^table acme\.pg_group is not visible/);
    expect(judged.reason).not.toMatch(/more are/);
  });
});
