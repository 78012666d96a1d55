import { expect, it } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { Bindings } from "../../workers/binding-cache.ts";

const binding: TenantBinding = {
  tenant: tenantId("acme"),
  searchPath: ["acme", "public"],
  statementTag: "tag",
  roles: ["acme_user"],
  prepares: false,
  notifies: false,
  guard: { reads: true, schemas: ["acme"], revisions: ["1"], lock: "1" },
};

it("a plugin cannot change its tenant's binding for later requests", () => {
  const bindings = new Bindings();
  const text = JSON.stringify(binding);
  const first = bindings.read(text);
  const changes: (() => void)[] = [
    () => Object.assign(first, { statementTag: "another" }),
    () => Reflect.apply(Array.prototype.push, first.roles, ["postgres"]),
    () => Reflect.apply(Array.prototype.reverse, first.searchPath, []),
    () => Object.assign(first.guard ?? {}, { reads: false }),
    () => Reflect.apply(Array.prototype.pop, first.guard?.revisions ?? [], []),
  ];
  for (const change of changes) expect(change).toThrow(TypeError);
  expect(bindings.read(text)).toEqual(binding);
  expect(bindings.read(text)).toBe(first);
});
