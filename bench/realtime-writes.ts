/** What a write of one row pays for its event, and what it would pay for a notification. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { z } from "zod";
import { installControl } from "../src/control/install.ts";
import { startEmbedded } from "../src/embedded/server.ts";
import { Database } from "../src/postgres/database.ts";
import { inTurn, runArm } from "./bench.ts";
import type { Rounds } from "./report.ts";

/** `watched` is a watched table without any subscriber in the database, `told` one with a subscriber. */
export const writeArms = ["plain", "watched", "told", "notifying"] as const;

const tables = `
  create schema bench;
  create table bench.plain (id bigint generated always as identity primary key, name text not null);
  create table bench.watched (like bench.plain including all);
  create table bench.notifying (like bench.plain including all);
  create function bench.notify() returns trigger language plpgsql as
    $$ begin perform pg_notify('bench', json_build_object('op', tg_op, 'keys', (select json_agg(id) from new_rows))::text); return null; end $$;
  create trigger notify after insert on bench.notifying referencing new table as new_rows
    for each statement execute function bench.notify();
  select rowhouse.watch('bench.watched');`;

/**
 * On a server of its own that syncs, as one in production does: notifications are slow because commits that send them wait for each
 * other's sync.
 */
export async function measureWrites(rounds: Rounds, count: number, durationMs: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-bench-writes-"));
  const server = await startEmbedded({ directory, persistent: true });
  const admin = new pg.Client({ connectionString: server.url });
  try {
    await install(server.url);
    await admin.connect();
    await admin.query(tables);
    for (let round = 0; round < count; round += 1) {
      for (const arm of inTurn(writeArms, round)) {
        await admin.query("select rowhouse.unregister_realtime('bench')");
        if (arm === "told") await admin.query("select rowhouse.register_realtime('bench', '1 hour')");
        for (const clients of [8, 32]) {
          const table = arm === "told" ? "watched" : arm;
          const input = {
            url: server.url,
            statement: `insert into bench.${table} (name) values ('a row of the bench')`,
            clients,
            warmMs: durationMs / 4,
            durationMs,
          };
          const found = await runArm("writers", input, (message) =>
            z.record(z.string(), z.number()).parse(message),
          );
          rounds.add(`writes, ${clients} clients · ${arm}`, found);
        }
        if (arm === "told") await assertEvents(admin);
      }
    }
  } finally {
    await admin.end();
    await server.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function assertEvents(admin: pg.Client): Promise<void> {
  const { rows } = await admin.query("select from rowhouse.event limit 1");
  if (rows.length === 0) throw new Error("the writes made no events");
}

async function install(url: string): Promise<void> {
  const database = new Database({
    name: "main",
    url,
    applicationName: "rowhouse:bench",
    observe: () => undefined,
  });
  await installControl(database, () => undefined);
  await database.close();
}
