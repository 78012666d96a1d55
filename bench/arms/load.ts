/** The load, in a process of its own: a number of connections, each sending one request after the other, for a given time. */
import { once } from "node:events";
import { Client } from "undici";
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
const body = JSON.stringify({ query });
const failure = Buffer.from('"errors"');
const latencies: number[] = [];
let failed = 0;
let next = 0;

/** Sends one request through undici's lowest interface: on two cores, the load's own cost is taken from what is measured. */
function ask(client: Client): Promise<boolean> {
  const tenant = tenants[next++ % tenants.length] ?? "";
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const chunks: Buffer[] = [];
  let status = 0;
  client.dispatch(
    {
      path: pathname,
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-tenant": tenant },
      body,
    },
    {
      onRequestStart: () => undefined,
      onResponseStart: (_, statusCode) => {
        status = statusCode;
      },
      onResponseData: (_, chunk) => {
        chunks.push(chunk);
      },
      onResponseEnd: () => {
        const [only] = chunks;
        const answer = only !== undefined && chunks.length === 1 ? only : Buffer.concat(chunks);
        resolve(status === 200 && !answer.includes(failure));
      },
      onResponseError: (_, error) => reject(error),
    },
  );
  return promise;
}

async function askUntil(client: Client, untilMs: number, measured: boolean): Promise<void> {
  while (performance.now() < untilMs) {
    const startedMs = performance.now();
    if (!(await ask(client))) failed += 1;
    if (measured) latencies.push(performance.now() - startedMs);
  }
}

const clients = Array.from({ length: connections }, () => new Client(origin, { pipelining: 1 }));

async function all(untilMs: number, measured: boolean): Promise<void> {
  await Promise.all(clients.map((client) => askUntil(client, untilMs, measured)));
}

await all(performance.now() + warmMs, false);
process.send?.({ kind: "begin" });
const before = process.cpuUsage();
const startedMs = performance.now();
await all(startedMs + durationMs, true);
const seconds = (performance.now() - startedMs) / 1_000;
const { user, system } = process.cpuUsage(before);
latencies.sort((a, b) => a - b);
const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
await reply({
  requests: latencies.length,
  requestsPerSecond: latencies.length / seconds,
  p50Ms: at(0.5),
  p99Ms: at(0.99),
  cpuMicros: (user + system) / latencies.length,
  failed,
});
process.exit(0);
