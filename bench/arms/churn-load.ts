/** An open-loop load: a fixed number of requests per second, tenants drawn by Zipf's law, each answer checked. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { z } from "zod";
import { reply } from "./input.ts";

const message = z.object({
  input: z.object({
    url: z.string(),
    tenants: z.array(z.string()),
    query: z.string(),
    /** The expected answer, with `TENANT` for the tenant's id. */
    expected: z.string(),
    perSecond: z.number(),
    durationMs: z.number(),
    /** Timeout for an answer and for a connection. */
    patienceMs: z.number(),
  }),
});
const [first]: unknown[] = await once(process, "message");
const { url, tenants, query, expected, perSecond, durationMs, patienceMs } = message.parse(first).input;
const agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0 });

/** The same sequence in every arm: a linear congruential generator (Numerical Recipes). */
let seed = 20;
function random(): number {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
}
const shares = tenants.map((_, rank) => 1 / (rank + 1));
const sum = shares.reduce((total, share) => total + share, 0);
function nextTenant(): string {
  let left = random() * sum;
  for (const [rank, share] of shares.entries()) {
    left -= share;
    if (left <= 0) return tenants[rank] ?? "";
  }
  return tenants[0] ?? "";
}

const latencies: number[] = [];
const failures = new Map<string, number>();
let wrong = 0;

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return "no answer in time";
  return "code" in error ? String(error.code) : String(error);
}

async function ask(tenant: string): Promise<void> {
  const askedMs = performance.now();
  try {
    const { statusCode, body } = await request(url, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-tenant": tenant },
      body: JSON.stringify({ query }),
      dispatcher: agent,
      signal: AbortSignal.timeout(patienceMs),
    });
    const text = await body.text();
    if (statusCode !== 200 || text.includes('"errors"')) {
      const code = /"code":"(\w+)"/.exec(text)?.[1] ?? String(statusCode);
      failures.set(code, (failures.get(code) ?? 0) + 1);
    } else if (text !== expected.replace("TENANT", tenant)) wrong += 1;
    else latencies.push(performance.now() - askedMs);
  } catch (error) {
    const code = codeOf(error);
    failures.set(code, (failures.get(code) ?? 0) + 1);
  }
}

const asked: Promise<void>[] = [];
const startedMs = performance.now();
for (let ordinal = 0; ; ordinal += 1) {
  const dueMs = startedMs + (ordinal * 1_000) / perSecond;
  if (dueMs - startedMs >= durationMs) break;
  await sleep(Math.max(0, dueMs - performance.now()));
  asked.push(ask(nextTenant()));
}
await Promise.all(asked);
latencies.sort((a, b) => a - b);
const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? Number.NaN;
await reply({
  asked: asked.length,
  answered: latencies.length,
  wrong,
  p50Ms: at(0.5),
  p99Ms: at(0.99),
  failures: JSON.stringify(Object.fromEntries(failures)),
});
process.exit(0);
