/** Parses a tenant's record, and collects the faults of a wrong one. */

import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { ConfigError } from "../../src/validation/config-error.ts";

export const defaults = { database: "main", databases: ["main", "other"] };

/** The tenant acme, overridden by `record`. */
export function parseRecord(record: object): Tenant {
  return parseTenant({ id: "acme", schemas: ["app"], ...record }, defaults);
}

/** The faults that `work` throws, by path; empty if it throws nothing. */
export function faultsOf(work: () => unknown): Record<string, string> {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return Object.fromEntries(error.faults.map(({ path, message }) => [path, message]));
  }
  return {};
}
