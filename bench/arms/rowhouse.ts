/** The host, in a process of its own, pooled or dedicated. */
import { loadConfig } from "../../src/config/load.ts";
import { startHost } from "../../src/host.ts";
import { parseTenant } from "../../src/tenant/tenant.ts";
import { armInput, reply } from "./input.ts";

const { arm, url, tenants, guard } = await armInput();
const config = await loadConfig({ env: { DATABASE_URL: url, PORT: "0" }, cwd: "/nonexistent", execArgv: [] });
const defaults = { database: "main", databases: ["main"] };
const host = await startHost({
  config: {
    ...config,
    admin: { ...config.admin, port: 0 },
    production: true,
    graphiql: false,
    pooling: arm === "pooled",
    guard,
    databases: { main: { url, listenUrl: url, poolSize: 8, install: false } },
    tenants: { kind: "list", list: tenants.map((tenant) => parseTenant(tenant, defaults)) },
    routing: [{ kind: "header", name: "x-tenant" }],
    cells: { ...config.cells, memoryMb: 2048 },
  },
  version: "bench",
  log: () => undefined,
});
await reply({ url: `${host.publicUrl}/graphql`, adminUrl: host.adminUrl });
