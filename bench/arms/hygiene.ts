/** One process that runs tenants' statements in turn over a few connections, with one of several ways to keep sessions clean. */
import pg from "pg";
import { fixedStatement } from "../../src/shared/postgres/pipeline.ts";
import { randomSeed } from "../../src/shared/postgres/random-seed.ts";
import { searchPathText } from "../../src/shared/postgres/search-path.ts";
import { Connection } from "../../workers/postgres/connection.ts";
import { Pooler } from "../../workers/postgres/pooler.ts";
import { setBaseline } from "../../workers/postgres/session-reset.ts";
import type { Setting } from "../../workers/postgres/settings.ts";
import { read, Transaction } from "../../workers/postgres/transaction.ts";
import { cpuSeconds } from "../processes.ts";
import { armInput, reply } from "./input.ts";

const { arm, url, tenants, durationMs } = await armInput();
const connections = 8;
const statementTimeoutMs = 30_000;

/** A statement that costs nothing, for arms that clear nothing after a commit. */
const nothing = [fixedStatement("nothing", "select")];

const opened = await Promise.all(
  Array.from({ length: connections }, async (_, ordinal) => {
    const client = await new pg.Pool({ connectionString: url, max: 1, pipeline: true }).connect();
    const baseline = await setBaseline(client, statementTimeoutMs);
    const clearing = arm === "chosen" || arm === "dropped" ? baseline.clearing : nothing;
    const hidden = arm !== "dropped";
    const pooler = new Pooler(() => undefined);
    const facts = { ...baseline, clearing, hidden, pooler, ordinal, onReleased: () => undefined };
    return new Connection(client, 2 ** 20, facts);
  }),
);

const servedBy = (index: number) => tenants[index % tenants.length] ?? tenants[0];

function settingsOf(index: number): Setting[] {
  const tenant = servedBy(index);
  return [
    ["role", tenant?.roles.anonymous ?? "none"],
    ...(arm === "nothing" ? [] : [["seed", randomSeed()] as const]),
    ["search_path", searchPathText([tenant?.schemas.app ?? ""])],
  ];
}

async function discardAll(connection: Connection): Promise<void> {
  await connection.send([{ text: "discard all" }]);
  connection.statements.forgetAll();
  await setBaseline(connection.client, statementTimeoutMs);
}

/** Lends a session to the next tenant. */
async function lent(connection: Connection, index: number): Promise<void> {
  connection.acquire({ tenant: String(servedBy(index)?.id), prepares: false });
  if (arm === "discard all") await discardAll(connection);
}

async function query(connection: Connection, index: number): Promise<unknown> {
  await lent(connection, index);
  const text = "select name, mood, amount from t1_item where id = $1";
  const { rows } = await read(
    connection,
    settingsOf(index),
    { text, values: [3], name: "q" },
    { tag: `t${index % tenants.length}`, guard: null, notifies: false },
  );
  return rows;
}

async function mutation(
  connection: Connection,
  index: number,
  text = "update t1_item set note = $1 where id = 3 returning name",
): Promise<unknown> {
  await lent(connection, index);
  const transaction = new Transaction(connection, settingsOf(index), `t${index % tenants.length}`, null);
  return (await transaction.only({ text, values: ["noted"] })).rows;
}

const operations = { query, mutation };
const backendSeconds = async (): Promise<number> => {
  const each = await Promise.all(opened.map(({ client }) => cpuSeconds(client.processID ?? undefined)));
  return each.reduce((sum, seconds) => sum + seconds, 0);
};

/** Passes every connection from tenant to tenant for `forMs`; returns the number of answers. */
async function run(
  work: (connection: Connection, index: number) => Promise<unknown>,
  forMs: number,
): Promise<number> {
  const endMs = performance.now() + forMs;
  const counts = opened.map(async (connection, first) => {
    let count = 0;
    for (; performance.now() < endMs; count += 1) await work(connection, first + count);
    return count;
  });
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

const figures: Record<string, number | string> = {};
const [only] = opened;
if (only === undefined) throw new Error("no connection");
figures["answer"] = JSON.stringify([
  await query(only, 0),
  await query(only, 1),
  await mutation(only, 0),
  await mutation(only, 1),
]);
// Checks that the measured clearing really happens.
await mutation(
  only,
  0,
  "update t1_item set note = $1 where id = 3 returning set_config('bench.left', 'something', false)",
);
await lent(only, 1);
const { rows } = await read(
  only,
  settingsOf(1),
  { text: "select current_setting('bench.left', true) as value" },
  { tag: "left", guard: null, notifies: false },
);
figures["left"] = JSON.stringify(rows);
await discardAll(only);

for (const [name, work] of Object.entries(operations)) {
  await run(work, durationMs / 4);
  const before = { cpu: process.cpuUsage(), backend: await backendSeconds(), ms: performance.now() };
  const count = await run(work, durationMs);
  const { user, system } = process.cpuUsage(before.cpu);
  figures[`${name} req/s`] = (count * 1_000) / (performance.now() - before.ms);
  figures[`${name} thread CPU µs`] = (user + system) / count;
  figures[`${name} postgres CPU µs`] = (((await backendSeconds()) - before.backend) * 1e6) / count;
}
for (const { client } of opened) client.release(true);
await reply(figures);
