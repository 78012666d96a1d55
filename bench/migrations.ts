/** What schema changes cost: DDL with and without the control schema's triggers, and many tenants migrated under load. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "pg";
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { cpuSeconds } from "./processes.ts";
import { type Figures, figureOf, measuredOf, Rounds } from "./report.ts";
import { metricOf, type ServerArm, startRowhouse } from "./server.ts";

const triggers = ["rowhouse_ddl_command_end", "rowhouse_sql_drop"];
const statements = 300;

/** A migration as tools write it: six kinds of DDL over fifty tables. */
const migration = Array.from({ length: statements / 6 }, (_, n) => [
  `create table moving.t${n} (id integer generated always as identity primary key, name text)`,
  `alter table moving.t${n} add column amount numeric not null default 0`,
  `create index on moving.t${n} (name)`,
  `comment on table moving.t${n} is 'Table ${n}.'`,
  `grant select on moving.t${n} to public`,
  `create function moving.f${n}() returns integer language sql stable begin atomic select ${n}; end`,
]).flat();

/** 4000 cheap commands sent as one string, as a generated migration is: they leave little for the triggers to hide behind. */
const alters = Array.from({ length: 4_000 }, (_, n) => {
  const table = `moving.t${n % 200}`;
  const kinds = [
    `add column c${n} integer`,
    `alter column name set default 'x${n}'`,
    "alter column name drop not null",
    "alter column name set not null",
    `set (fillfactor = ${50 + (n % 50)})`,
  ];
  return `alter table ${table} ${kinds[Math.floor(n / 200) % kinds.length]}`;
}).join(";");

async function enable(client: Client, triggered: boolean): Promise<void> {
  for (const name of triggers) {
    await client.query(`alter event trigger ${name} ${triggered ? "enable always" : "disable"}`);
  }
  await client.query("drop schema if exists moving cascade; create schema moving");
}

async function inOneString(client: Client, triggered: boolean): Promise<Figures> {
  await enable(client, triggered);
  const tables = Array.from(
    { length: 200 },
    (_, n) => `create table moving.t${n} (id integer, name text not null)`,
  );
  await client.query(tables.join(";"));
  await client.query("checkpoint");
  const { rows } = await client.query("select pg_backend_pid() as pid");
  const pid = Number(rows[0].pid);
  const [startMs, startCpu] = [performance.now(), await cpuSeconds(pid)];
  await client.query(alters);
  return {
    "ms for 4000 ALTERs in one string": performance.now() - startMs,
    "backend CPU ms for them": ((await cpuSeconds(pid)) - startCpu) * 1_000,
  };
}

async function ddl(client: Client, triggered: boolean): Promise<Figures> {
  await enable(client, triggered);
  await client.query("checkpoint");
  const { rows } = await client.query("select pg_backend_pid() as pid");
  const pid = Number(rows[0].pid);
  const [startMs, startCpu] = [performance.now(), await cpuSeconds(pid)];
  await client.query("begin");
  for (const statement of migration) await client.query(statement);
  await client.query("commit");
  const ms = performance.now() - startMs;
  return {
    "ms for 300 statements": ms,
    "µs per statement": (ms * 1_000) / statements,
    "backend CPU µs per statement": (((await cpuSeconds(pid)) - startCpu) * 1e6) / statements,
  };
}

const builds = (server: ServerArm): Promise<number> => metricOf(server, "builds_total", 'result="ok"');

/** Runs `rowhouse migrate` over all tenants, then asks for the new column of each through the running host. */
async function migrate(
  database: BenchDatabase,
  server: ServerArm,
  directory: string,
  parallel: number,
  column: string,
): Promise<Figures> {
  const [config, sql] = [join(directory, "host.json"), join(directory, `${column}.sql`)];
  await writeFile(sql, `alter table t1_item add column ${column} text default '${column}'`);
  await writeFile(
    config,
    JSON.stringify({
      databases: { main: { url: database.ownerUrl } },
      tenants: database.tenants,
      pooling: true,
    }),
  );
  const before = await builds(server);
  const startMs = performance.now();
  const cli = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
  const args = [cli, "migrate", "--config", config, "--sql", sql, "--all", "--parallel", String(parallel)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
  const [code]: unknown[] = await once(child, "exit");
  if (code !== 0) throw new Error(`rowhouse migrate ended with ${String(code)}`);
  const seconds = (performance.now() - startMs) / 1_000;
  for (const { id } of database.tenants) {
    const answer = await server.ask(id, `{ t1ItemByRowId(rowId: 3) { name ${column} } }`);
    const expected = JSON.stringify({ data: { t1ItemByRowId: { name: `${id} item 3`, [column]: column } } });
    if (answer !== expected) throw new Error(`${id} answered ${answer}`);
  }
  const { length } = database.tenants;
  return { seconds, "ms per tenant": (seconds * 1_000) / length, builds: (await builds(server)) - before };
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 50 : 500, tables = 10 }) {
    const database = await benchDatabase(tenants, tables);
    const directory = await mkdtemp(join(tmpdir(), "rowhouse-bench-"));
    const rounds = new Rounds();
    const client = new Client({ connectionString: database.ownerUrl });
    try {
      await database.installControl();
      await client.connect();
      // The first round only warms the caches of catalogues and functions.
      for (let round = 0; round <= (quick ? 4 : 10); round += 1) {
        for (const triggered of inTurn([false, true], round)) {
          const figures = await ddl(client, triggered);
          const string = await inOneString(client, triggered);
          if (round > 0) rounds.add(triggered ? "DDL · triggers" : "DDL · none", { ...figures, ...string });
        }
      }
      for (const name of triggers) await client.query(`alter event trigger ${name} enable always`);
      await client.query("drop schema moving cascade");
      const server = await startRowhouse({ database, tenants: database.tenants, config: { pooling: true } });
      for (const { id } of database.tenants) await server.ask(id, "{ __typename }");
      for (let round = 0; round < (quick ? 1 : 2); round += 1) {
        for (const parallel of inTurn([2, 8], round)) {
          rounds.add(
            `migrate · ${parallel} at once`,
            await migrate(
              database,
              server,
              directory,
              parallel,
              `wave${parallel === 2 ? "two" : "eight"}${"abcdefgh"[round]}`,
            ),
          );
        }
      }
      await server.stop();
    } finally {
      await client.end();
      await rm(directory, { recursive: true, force: true });
      await database.close();
    }
    const found = { arms: rounds.medians };
    const of = (arm: string, figure: string): number => figureOf(found, arm, figure);
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf({
        "µs that the triggers add to a statement":
          of("DDL · triggers", "µs per statement") - of("DDL · none", "µs per statement"),
        "DDL: ms, triggers over none":
          of("DDL · triggers", "ms for 300 statements") / of("DDL · none", "ms for 300 statements"),
        "4000 ALTERs in one string: ms, triggers over none":
          of("DDL · triggers", "ms for 4000 ALTERs in one string") /
          of("DDL · none", "ms for 4000 ALTERs in one string"),
        "migrate: seconds, 8 at once over 2":
          of("migrate · 8 at once", "seconds") / of("migrate · 2 at once", "seconds"),
      }),
      notes: [
        `300 statements of six kinds in one transaction; 4000 of five kinds over 200 tables in one string; ${tenants} tenants × ${tables} tables of one shape migrated by the command line, each asked afterwards through a running host`,
      ],
    };
  },
  charts: (found) => [
    {
      kind: "bars",
      title: "A migration of 300 DDL statements in one transaction",
      unit: "ms, less is better",
      groups: [""],
      series: ["DDL · none", "DDL · triggers"].map((arm) => ({
        name: arm === "DDL · none" ? "without triggers" : "with triggers",
        values: [figureOf(found, arm, "ms for 300 statements")],
      })),
    },
  ],
};

export default bench;
