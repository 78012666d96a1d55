/** The control schema in a throwaway database, and its revisions. */

import { installControl } from "../../src/control/install.ts";
import { Database } from "../../src/postgres/database.ts";
import type { TenantGuard } from "../../src/shared/model/tenant-binding.ts";
import type { TestDatabase } from "./database.ts";

/** Installs it as `serve` would, with a superuser's rights. */
export async function installGuard({ url }: TestDatabase): Promise<void> {
  const front = new Database({ name: "main", url, applicationName: "rowhouse:test", observe: () => {} });
  await installControl(front, () => {});
  await front.close();
}

/** The revision of a schema; "0" if it has none. */
export async function revisionOf(database: TestDatabase, schema: string): Promise<string> {
  const [row] = await database.query<{ revision: string }>(
    "select revision::text from rowhouse.schema_revision where schema_name = $1",
    [schema],
  );
  return row?.revision ?? "0";
}

/** A guard that holds while the schema keeps its current revision, for a tenant of the same name. */
export async function guardOf(database: TestDatabase, schema: string, reads = false): Promise<TenantGuard> {
  const [row] = await database.query<{ key: string }>("select rowhouse.tenant_lock_key($1)::text as key", [
    schema,
  ]);
  return { reads, schemas: [schema], revisions: [await revisionOf(database, schema)], lock: row?.key ?? "" };
}
