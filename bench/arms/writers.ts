/** Clients that each insert one row per transaction, for a given time. */

import { once } from "node:events";
import pg from "pg";
import { z } from "zod";
import { reply } from "./input.ts";

const message = z.object({
  input: z.object({
    url: z.string(),
    statement: z.string(),
    clients: z.number(),
    warmMs: z.number(),
    durationMs: z.number(),
  }),
});
const [first]: unknown[] = await once(process, "message");
const { url, statement, clients, warmMs, durationMs } = message.parse(first).input;
const connected = await Promise.all(
  Array.from({ length: clients }, async () => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    return client;
  }),
);

async function write(untilMs: number): Promise<number> {
  let written = 0;
  const keepWriting = async (client: pg.Client): Promise<void> => {
    for (; performance.now() < untilMs; written += 1) await client.query({ name: "write", text: statement });
  };
  await Promise.all(connected.map(keepWriting));
  return written;
}

await write(performance.now() + warmMs);
const startedMs = performance.now();
const written = await write(startedMs + durationMs);
const seconds = (performance.now() - startedMs) / 1_000;
await Promise.all(connected.map((client) => client.end()));
await reply({ "tx/s": written / seconds });
process.exit(0);
