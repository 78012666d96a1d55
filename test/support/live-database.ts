/** Tenants with watched tables, and the host's role with what it needs to serve subscribers. */
import { directoryWith } from "./host.ts";
import { runCli } from "./host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "./host-tenants.ts";

export const liveQuery = "query @live { allItems(orderBy: PRIMARY_KEY_ASC) { nodes { label } } }";

export interface LiveDatabase extends TenantDatabase {
  readonly tenants: readonly TenantRecord[];
  /** To be called when all tenants are there. */
  grant(): Promise<void>;
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
    async grant() {
      const config = { databases: { main: { url: database.url } }, tenants };
      const { path: cwd } = await directoryWith({ "host.json": JSON.stringify(config) });
      const args = ["install", "--config", "host.json", "--grant", `${database.name}_host`];
      const { code, stderr } = await runCli({ args, cwd });
      if (code !== 0) throw new Error(stderr);
    },
  };
}
