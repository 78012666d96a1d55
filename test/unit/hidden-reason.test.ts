import { expect, it } from "vitest";
import { hiddenReason } from "../../src/decisions/hidden-reason.ts";

it.each([
  [
    "function app_public.current_user()",
    "pg_catalog.current_user",
    "function app_public.current_user() is not visible by its bare name: calls may resolve to pg_catalog.current_user instead: rename it, and keep its name in the API with the smart tag @name currentUser; or leave it out of the API with the smart tag @behavior -*",
  ],
  [
    "table acme.pg_group",
    "pg_catalog.pg_group",
    "table acme.pg_group is not visible by its bare name: it is hidden by pg_catalog.pg_group: rename it, and keep its name in the API with the smart tag @name pg_group; or leave it out of the API with the smart tag @behavior -*",
  ],
  [
    'materialized view "odd.schema"."a ""b"""',
    'one."a ""b"""',
    'materialized view "odd.schema"."a ""b""" is not visible by its bare name: it is hidden by one."a ""b""": rename it, and keep its name in the API with the smart tag @name a "b"; or leave it out of the API with the smart tag @behavior -*',
  ],
  [
    "type extensions.citext",
    null,
    "type extensions.citext is not visible by its bare name: its schema extensions is not on the tenant's path: add it to sharedSchemas; or leave it out of the API with the smart tag @behavior -*",
  ],
  [
    "operator acme.=(acme.a, acme.b)",
    "pg_catalog.=",
    "operator acme.=(acme.a, acme.b) is not visible by its bare name: calls may resolve to pg_catalog.= instead: rename it",
  ],
])("%s that bare names do not find is reported with its cure", (object, finds, reason) => {
  expect(hiddenReason([object], [finds])).toBe(reason);
});

it("of several hidden objects the first is named, and the others are counted", () => {
  const reason = hiddenReason(["table a.x", "table a.y", "table a.z"], ["b.x", "b.y", "b.z"]);
  expect(reason).toMatch(/^table a\.x .* \(2 more are not visible by their bare names either\)$/);
  expect(hiddenReason([], [])).toBeNull();
});
