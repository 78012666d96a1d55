import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { Borrower } from "../../workers/postgres/statement-trust.ts";

/** A tenant as a connection knows it, none of whose functions can list statements. */
export function borrowerOf(tenant: string, prepares = false): Borrower {
  return { tenant: tenantId(tenant), prepares, lists: false, statementTag: tenant, guard: null };
}
