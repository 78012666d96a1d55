/** Tenants with watched tables, and the host's role with what it needs to serve subscribers. */
import { expect, vi } from "vitest";
import type { TestDatabase } from "./database.ts";
import { directoryWith } from "./host.ts";
import { runCli } from "./host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "./host-tenants.ts";

export const liveQuery = "query @live { allItems(orderBy: PRIMARY_KEY_ASC) { nodes { label } } }";

export interface LiveDatabase extends TenantDatabase {
  readonly tenants: readonly TenantRecord[];
  /** To be called when all tenants are there. */
  grant(): Promise<void>;
  /** Waits until no transaction is under way any more that was when it was called, in any database of the server. */
  settled(): Promise<void>;
}

/** Waits until no transaction is under way any more that was when it was called, in any database of the server. */
export async function settled(database: Pick<TestDatabase, "query">): Promise<void> {
  const [now] = await database.query<{ xmax: string }>(
    "select pg_snapshot_xmax(pg_current_snapshot())::text as xmax",
  );
  await vi.waitFor(
    async () => {
      const text = "select from (values (1)) v where pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8";
      expect(await database.query(text, [now?.xmax])).toHaveLength(1);
    },
    { timeout: 20_000 },
  );
}

export async function createLiveDatabase(name: string, ...ids: readonly string[]): Promise<LiveDatabase> {
  const database = await createTenantDatabase(name);
  const tenants: TenantRecord[] = [];
  for (const id of ids) {
    tenants.push(await database.tenant(id));
    await database.change(id, "select rowhouse.watch('item'::regclass)");
  }
  return {
    ...database,
    tenants,
    settled: () => settled(database),
    async grant() {
      const config = { databases: { main: { url: database.url } }, tenants };
      const { path: cwd } = await directoryWith({ "host.json": JSON.stringify(config) });
      const args = ["install", "--config", "host.json", "--grant", `${database.name}_host`];
      const { code, stderr } = await runCli({ args, cwd });
      if (code !== 0) throw new Error(stderr);
    },
  };
}
