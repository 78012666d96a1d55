/** The load, in a process of its own: so many connections, each asking one after the other, for so long. */
import { once } from "node:events";
import { Pool } from "undici";
import { z } from "zod";
import { reply } from "./input.ts";

const message = z.object({
  input: z.object({
    url: z.string(),
    tenants: z.array(z.string()),
    query: z.string(),
    connections: z.number(),
    warmMs: z.number(),
    durationMs: z.number(),
  }),
});
const [first]: unknown[] = await once(process, "message");
const { url, tenants, query, connections, warmMs, durationMs } = message.parse(first).input;
const { origin, pathname } = new URL(url);
const pool = new Pool(origin, { connections, pipelining: 1 });
const body = JSON.stringify({ query });
const latencies: number[] = [];
let failed = 0;
let next = 0;

async function client(untilMs: number, measured: boolean): Promise<void> {
  while (performance.now() < untilMs) {
    const tenant = tenants[next++ % tenants.length] ?? "";
    const startedMs = performance.now();
    const { statusCode, body: answer } = await pool.request({
      path: pathname,
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-tenant": tenant },
      body,
    });
    const text = await answer.text();
    if (statusCode !== 200 || text.includes('"errors"')) failed += 1;
    if (measured) latencies.push(performance.now() - startedMs);
  }
}

async function all(untilMs: number, measured: boolean): Promise<void> {
  await Promise.all(Array.from({ length: connections }, () => client(untilMs, measured)));
}

await all(performance.now() + warmMs, false);
process.send?.({ kind: "begin" });
const startedMs = performance.now();
await all(startedMs + durationMs, true);
const seconds = (performance.now() - startedMs) / 1_000;
latencies.sort((a, b) => a - b);
const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
await reply({
  requests: latencies.length,
  requestsPerSecond: latencies.length / seconds,
  p50Ms: at(0.5),
  p99Ms: at(0.99),
  failed,
});
process.exit(0);
