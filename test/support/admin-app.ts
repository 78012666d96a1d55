/** An admin app on a socket of its own, whose operations record their arguments. */
import { request } from "undici";
import { createAdminApp } from "../../src/http/admin/app.ts";
import type { EvictTarget, MigrateRequest, TenantView } from "../../src/http/admin/contract.ts";
import { serveApp } from "../../src/http/fetch-app.ts";
import { type Listening, listen } from "../../src/http/server.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { composeStatus } from "../../src/observability/status.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { pooledKey, shapeHash, tenantId } from "../../src/shared/kernel/ids.ts";

export const token = "0123456789abcdef";
const running = new Set<Listening>();

const sha = "ab".repeat(32);
const key = pooledKey(sha);
const shape = shapeHash(sha);
const viewOf = (id: string): TenantView => ({
  id,
  key,
  kind: "pooled",
  shape,
  core: shape,
  revisions: {},
  schemas: {},
});

const statusOfNothing = () =>
  composeStatus({
    version: "1",
    uptimeMs: 1,
    memory: { rssMb: 1, limitMb: 1, planMb: 1 },
    fleet: {
      cells: [],
      builds: { queued: 0, running: 0 },
      evictions: 0,
      connections: { total: 0, idle: 0, waiting: 0, reserve: 0 },
      readOnly: {},
    },
    tenants: { known: 0, decided: 0 },
    http: { idle: 0, receiving: 0, working: 0 },
  });

/** To be called after each test. */
export async function closeAdminApps(): Promise<void> {
  for (const each of running) await each.close(0);
  running.clear();
}

export async function startAdminApp(
  options: { token?: string | null; ready?: boolean; status?: () => never } = {},
) {
  const evicted: EvictTarget[] = [];
  const migrated: (MigrateRequest & { id: string })[] = [];
  const observations: Observation[] = [];
  const app = createAdminApp({
    token: options.token ?? null,
    observe: (observation) => observations.push(observation),
    metricsText: async () => ({ contentType: "text/plain; version=0.0.4", text: "rowhouse_cells 1\n" }),
    operations: {
      health: () => true,
      ready: () => options.ready ?? true,
      readOnly: () => false,
      status: options.status ?? statusOfNothing,
      tenant: async (id) => {
        if (id !== "acme") throw new HostError("TENANT_UNKNOWN");
        return viewOf(id);
      },
      evict: async (target) => {
        evicted.push(target);
        return { evicted: [key] };
      },
      flush: async () => ({ evicted: [], decisions: 0 }),
      migrate: async (id, request) => {
        if (request.expect !== undefined) {
          throw new HostError("SCHEMA_CHANGED", "inner", { details: { shape: "f00" } });
        }
        migrated.push({ id, ...request });
        return { tenant: tenantId(id), from: shape, to: shape, revisions: {}, ms: 1 };
      },
    },
  });
  const listening = await listen(serveApp(app), { host: "127.0.0.1", port: 0 }, () => {});
  running.add(listening);
  const { url } = listening;
  const ask = async (
    path: string,
    options: { method?: "GET" | "POST" | "PUT"; headers?: Record<string, string>; body?: string } = {},
  ) => {
    const answer = await request(url + path, { method: "GET", ...options });
    const text = await answer.body.text();
    const code = /"code":"(\w+)"/.exec(text)?.[1];
    return { status: answer.statusCode, headers: answer.headers, text, code };
  };
  const post = (path: string, body: unknown, headers = {}) =>
    ask(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  return { port: listening.port, ask, post, evicted, migrated, observations };
}
