/** An admin app on a socket of its own, whose operations record their arguments. */
import { request } from "undici";
import { createAdminApp, type EvictTarget, type MigrateRequest } from "../../src/http/admin/app.ts";
import { serveApp } from "../../src/http/fetch-app.ts";
import { type Listening, listen } from "../../src/http/server.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";

export const token = "0123456789abcdef";
const running = new Set<Listening>();

/** To be called after each test. */
export async function closeAdminApps(): Promise<void> {
  for (const each of running) await each.close(0);
  running.clear();
}

export async function startAdminApp(
  options: { token?: string | null; ready?: boolean; status?: () => unknown } = {},
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
      status: options.status ?? (() => ({ version: "1" })),
      tenant: async (id) => {
        if (id !== "acme") throw new HostError("TENANT_UNKNOWN");
        return { id };
      },
      evict: async (target) => {
        evicted.push(target);
        return { evicted: [target] };
      },
      flush: async () => ({ evicted: [] }),
      migrate: async (id, request) => {
        if (request.expect !== undefined) {
          throw new HostError("SCHEMA_CHANGED", "inner", { details: { shape: "f00" } });
        }
        migrated.push({ id, ...request });
        return { tenant: id };
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
