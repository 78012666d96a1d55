/**
 * Stock PostGraphile on its own node server: an instance per tenant, built when first asked for, one after the other, and
 * kept.
 */
import { createServer } from "node:http";
import { LRUCache } from "lru-cache";
import pg from "pg";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import type { BenchTenant } from "../database.ts";
import { armInput, reply } from "./input.ts";

const { url, tenants, instances } = await armInput();
const known = new Map(tenants.map((tenant) => [tenant.id, tenant]));
// One pool for all, as large as what the other arms have in all their cells.
const pool = new pg.Pool({ connectionString: url, max: 8 });
pool.on("error", () => undefined);

type Handler = ReturnType<ReturnType<typeof grafserv>["createHandler"]>;
let builds = 0;
let evictions = 0;
/** Many at once would need the memory of many builds at once: whoever writes such a cache finds that out. */
let building: Promise<unknown> = Promise.resolve();
const handlers = new LRUCache<string, Promise<Handler>>({
  max: instances > 0 ? instances : known.size,
  // Only let go of, not released: requests may be in it, and what is left of it after them is garbage.
  dispose: () => {
    evictions += 1;
  },
});

function handlerOf(id: string): Promise<Handler> | undefined {
  const existing = handlers.get(id);
  if (existing !== undefined) return existing;
  const tenant = known.get(id);
  if (tenant === undefined) return undefined;
  const built = building.then(() => build(tenant));
  building = built.catch(() => undefined);
  handlers.set(id, built);
  return built;
}

async function build(tenant: BenchTenant): Promise<Handler> {
  builds += 1;
  const instance = postgraphile({
    extends: [PostGraphileAmberPreset],
    grafserv: { graphiql: false, watch: false },
    pgServices: [
      makePgService({
        pool,
        schemas: [tenant.schemas.app],
        pgSettings: () => ({ role: tenant.roles.anonymous }),
      }),
    ],
  });
  await instance.getSchema();
  return instance.createServ(grafserv).createHandler();
}

const server = createServer((request, response) => {
  // For the bench, which has no other way to see into it.
  if (request.url === "/figures") {
    response.end(JSON.stringify({ builds, evictions }));
    return;
  }
  const handler = handlerOf(String(request.headers["x-tenant"]));
  if (handler === undefined) response.writeHead(404).end();
  else void handler.then((handle) => handle(request, response));
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  void reply({ url: `http://127.0.0.1:${port}/graphql` });
});
