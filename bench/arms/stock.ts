/** Stock PostGraphile on its own Node server: an instance per tenant, built on its first request, one at a time, and kept. */
import { createServer } from "node:http";
import { LRUCache } from "lru-cache";
import pg from "pg";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import type { BenchTenant } from "../database.ts";
import { armInput, reply } from "./input.ts";

const { arm, url, tenants, instances } = await armInput();
const setsRoles = arm === "stock";
const known = new Map(tenants.map((tenant) => [tenant.id, tenant]));
// One pool for all, as large as the other arms' pools together.
const pool = new pg.Pool({ connectionString: url, max: 8 });
pool.on("error", () => undefined);

type Handler = ReturnType<ReturnType<typeof grafserv>["createHandler"]>;
let builds = 0;
let evictions = 0;
/** Builds run one at a time: several at once would need the memory of several builds, as authors of such a cache find out. */
let building: Promise<unknown> = Promise.resolve();
const handlers = new LRUCache<string, Promise<Handler>>({
  max: instances > 0 ? instances : known.size,
  // Only dropped, not released: requests may still be using it, and it becomes garbage after them.
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
        ...(setsRoles ? { pgSettings: () => ({ role: tenant.roles.anonymous }) } : {}),
      }),
    ],
  });
  await instance.getSchema();
  return instance.createServ(grafserv).createHandler();
}

const server = createServer((request, response) => {
  // Lets the bench read these figures, which it could not see otherwise.
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
