/**
 * The victim, in a process of its own: an open loop that sends requests on schedule whether or not earlier ones were answered, over
 * keep-alive connections. Latency counts from the moment a request was due, so a host that freezes delays every request of that time.
 */
import { on } from "node:events";
import { setPriority } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { z } from "zod";

const message = z.object({
  input: z.object({
    url: z.string(),
    tenant: z.string(),
    token: z.string(),
    /** Connects from here, so that a limit per client address tells it from the attacker. */
    localAddress: z.string(),
    query: z.string(),
    mutation: z.string(),
    /** One request in so many is a mutation. */
    mutationEvery: z.number(),
    warmRequests: z.number(),
    everyMs: z.number(),
    /** Requests due before this time are counted separately, because an attack takes time to be recognised. */
    onsetMs: z.number(),
    durationMs: z.number(),
    /** A request that is unanswered this long after the last one was sent has failed. */
    graceMs: z.number(),
  }),
});

/** Keeps the measuring clock from waiting for the CPU; only root may set it. */
const highPriority = -10;
try {
  setPriority(highPriority);
} catch {
  // `sent late ms` shows the effect of not having it.
}

const messages = on(process, "message");
const [first]: unknown[] = (await messages.next()).value ?? [];
const { input } = message.parse(first);

/** Enough connections that no request waits in this process for another to end. */
const agent = new Agent({
  connections: 512,
  headersTimeout: 0,
  bodyTimeout: 0,
  connect: { localAddress: input.localAddress, timeout: 0 },
});
const givingUp = new AbortController();
const failures = new Map<string, number>();

/** Null if the answer is the expected one, otherwise what is wrong with it. */
async function ask(ordinal: number): Promise<string | null> {
  const query = ordinal % input.mutationEvery === 0 ? input.mutation : input.query;
  try {
    const { statusCode, body } = await request(input.url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json",
        authorization: `Bearer ${input.token}`,
        "x-tenant": input.tenant,
      },
      body: JSON.stringify({ query }),
      dispatcher: agent,
      signal: givingUp.signal,
    });
    const text = await body.text();
    if (statusCode === 200 && !text.includes('"errors"') && text.includes(`${input.tenant} item`))
      return null;
    return `${statusCode} ${/"code":"([A-Z_]+)"/.exec(text)?.[1] ?? text.slice(0, 80)}`;
  } catch (error) {
    if (givingUp.signal.aborted) return "no answer in time";
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}

for (let n = 0; n < input.warmRequests; n += 8) {
  const answers = await Promise.all(Array.from({ length: 8 }, (_, each) => ask(each)));
  const wrong = answers.find((answer) => answer !== null);
  if (wrong !== undefined) throw new Error(`the victim is not even served before the attack: ${wrong}`);
}
process.send?.({ kind: "ready" });
await messages.next();

const latencies: number[] = [];
const onset: number[] = [];
const lateness: number[] = [];
const asking: Promise<void>[] = [];

async function askOnTime(ordinal: number, dueMs: number): Promise<void> {
  lateness.push(performance.now() - dueMs);
  const wrong = await ask(ordinal);
  const taken = dueMs - beganMs < input.onsetMs ? onset : latencies;
  taken.push(performance.now() - dueMs);
  if (wrong !== null) failures.set(wrong, (failures.get(wrong) ?? 0) + 1);
}

const beganMs = performance.now();
for (let ordinal = 0; ordinal * input.everyMs < input.durationMs; ordinal += 1) {
  const dueMs = beganMs + ordinal * input.everyMs;
  const waitMs = dueMs - performance.now();
  if (waitMs > 0) await sleep(waitMs);
  asking.push(askOnTime(ordinal, dueMs));
}
const grace = setTimeout(() => givingUp.abort(), input.graceMs);
await Promise.all(asking);
clearTimeout(grace);

const at = (values: number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0;
const figures = {
  p50Ms: at(latencies, 0.5),
  p99Ms: at(latencies, 0.99),
  maxMs: at(latencies, 1),
  onsetP50Ms: at(onset, 0.5),
  onsetMaxMs: at(onset, 1),
  lateMs: at(lateness, 1),
  sent: onset.length + latencies.length,
  failed: [...failures.values()].reduce((sum, count) => sum + count, 0),
  failures: Object.fromEntries(failures),
};
process.send?.(figures, () => process.exit(0));
