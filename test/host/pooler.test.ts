import { Client, escapeIdentifier } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";
import { type PgBouncer, pgbouncerVersion, startPgBouncer } from "../support/pgbouncer.ts";

const ids = ["acme", "globex", "initech", "umbrella"];
const backends = 3;

/** A mutation that leaves everything a function can leave in a session, and a read that reports what it finds. */
const careless = `
create function leave_all(word text) returns integer language plpgsql volatile as $$
begin
  perform set_config('jwt.claims.user_id', word, false);
  perform set_config('statement_timeout', '77777', false);
  perform set_config('TimeZone', 'Asia/Tokyo', false);
  perform set_config('client_encoding', 'LATIN1', false);
  perform set_config('application_name', 'left', false);
  perform pg_advisory_lock(4711);
  execute 'listen left_behind';
  create temp table left_behind as select word;
  return 1;
end $$;
create function found() returns text language sql stable
  begin atomic select concat_ws(',', nullif(current_setting('jwt.claims.user_id', true), ''), to_regclass('pg_temp.left_behind')::text); end;
`;

describe.skipIf(pgbouncerVersion === null)(
  `behind PgBouncer ${pgbouncerVersion?.join(".")} in transaction mode`,
  () => {
    let database: TenantDatabase;
    let bouncer: PgBouncer;
    let host: TestHost;
    let url: string;
    const tenants: object[] = [];
    /** As many other clients of the pooler as it has backends; in a transaction each, they hold one backend each. */
    const others: Client[] = [];

    /** The result of `sql` on each backend, in the order of the clients that hold them. */
    async function ofBackends(sql: string): Promise<Record<string, unknown>[]> {
      for (const each of others) await each.query("begin");
      const rows: Record<string, unknown>[] = [];
      for (const each of others) rows.push((await each.query(sql)).rows[0]);
      for (const each of others) await each.query("rollback");
      return rows;
    }

    beforeAll(async () => {
      database = await createTenantDatabase("pooler");
      for (const id of ids) tenants.push(await database.tenant(id, careless));
      // Unlike elsewhere, this test looks at prepared statements.
      const role = escapeIdentifier(new URL(database.hostUrl).username);
      await database.execute(`grant execute on function pg_catalog.pg_prepared_statement() to ${role}`);
      bouncer = await startPgBouncer([database.hostUrl, database.url], { backends });
      url = bouncer.through(database.hostUrl);
      for (let n = 0; n < backends; n += 1) {
        const client = new Client({ connectionString: url, application_name: "other" });
        await client.connect();
        others.push(client);
      }
      host = await TestHost.start({
        config: {
          databases: { main: { url, listenUrl: database.hostUrl, install: false, poolSize: 4 } },
          tenants,
          pooling: true,
        },
      });
    });

    afterAll(async () => {
      await host?.stop();
      for (const each of others) await each.end();
      await bouncer?.close();
      await database?.drop();
    });

    it("many tenants' reads and writes share few backends: none fails, none sees another's rows, no write is lost", async () => {
      for (const id of ids) expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
      const written = new Map<string, number>();
      const client = async (index: number): Promise<void> => {
        for (let n = 0; n < 20; n += 1) {
          const id = ids[(index + n) % ids.length] ?? "";
          const label = `canary_${id} ${index} ${n}`;
          // Several operations, so that statements of all kinds come twice on each connection.
          const read = await host.data(
            id,
            `{ allItems(first: ${1 + (n % 7)}, orderBy: PRIMARY_KEY_ASC) { nodes { label parts: partsByItemId(first: 2) { nodes { name } } } } }`,
          );
          for (const item of read.allItems.nodes) expect(item.label).toContain(`canary_${id} `);
          if (n % 3 !== 0) continue;
          const made = await host.data(
            id,
            `mutation { createItem(input: { item: { label: "${label}" } }) { item { label } } }`,
          );
          expect(made).toEqual({ createItem: { item: { label } } });
          written.set(id, (written.get(id) ?? 0) + 1);
        }
      };
      await Promise.all(Array.from({ length: 12 }, (_, index) => client(index)));
      for (const id of ids) {
        const [row] = await database.query(
          `select count(*)::int as n, count(distinct label)::int as labels from canary_${id}.item where label ~ '[0-9]+ [0-9]+$'`,
        );
        expect(row).toEqual({ n: written.get(id), labels: written.get(id) });
      }
      expect(host.process.linesOf("database.pooled")).toMatchObject([{ database: "main" }]);
    }, 180_000);

    it("the host leaves no prepared statement or setting in a backend, and removes none of other clients", async () => {
      const mine = others.map((_, index) => `prepare others_${index} as select 1`);
      for (const each of others) await each.query("begin");
      for (const [index, each] of others.entries()) await each.query(mine[index] ?? "");
      for (const each of others) await each.query("commit");
      const state =
        "select (select count(*)::int from pg_prepared_statements where name ~ '^others_') as others, (select count(*)::int from pg_prepared_statements where name !~ '^(others_|PGBOUNCER_)') as foreign, current_setting('jit') as jit, current_setting('statement_timeout') as timeout, current_setting('client_connection_check_interval') as interval, current_user::text as role, current_setting('search_path') as path";
      const before = await ofBackends(state);
      expect(before.map(({ others: kept }) => kept)).toEqual(others.map(() => 1));
      for (let n = 0; n < 20; n += 1) {
        for (const id of ids) {
          await host.data(id, itemsQuery);
          await host.data(
            id,
            `mutation { createItem(input: { item: { label: "canary_${id} again ${n}" } }) { clientMutationId } }`,
          );
        }
      }
      const direct = new Client({ connectionString: database.hostUrl });
      await direct.connect();
      const [defaults] = (await direct.query(state)).rows;
      await direct.end();
      expect(await ofBackends(state)).toEqual(others.map(() => ({ ...defaults, others: 1, foreign: 0 })));
    }, 180_000);

    it("what a tenant's function leaves in a session is gone before another tenant or client gets the backend", async () => {
      for (let n = 0; n < 2 * backends; n += 1) {
        const [id = "", next = ""] = [ids[n % ids.length], ids[(n + 1) % ids.length]];
        expect(
          await host.data(id, `mutation { leaveAll(input: { word: "canary_${id}" }) { result } }`),
        ).toEqual({ leaveAll: { result: 1 } });
        expect(await host.data(next, "{ found }")).toEqual({ found: "" });
      }
      const left = await ofBackends(
        "select nullif(current_setting('jwt.claims.user_id', true), '') as claim, current_setting('statement_timeout') as timeout, current_setting('TimeZone') as zone, current_setting('client_encoding') as encoding, current_setting('application_name') as application, to_regclass('pg_temp.left_behind') as temp, (select count(*)::int from pg_listening_channels()) as channels, (select count(*)::int from pg_locks where locktype = 'advisory' and objid = 4711) as locks",
      );
      const [{ zone } = { zone: "" }] = await database.query("select current_setting('TimeZone') as zone");
      expect(left).toEqual(
        others.map(() => ({
          claim: null,
          timeout: "0",
          zone,
          encoding: "UTF8",
          application: "other",
          temp: null,
          channels: 0,
          locks: 0,
        })),
      );
    });

    it("cancelling a request ends its statement through the pooler", async () => {
      const stop = new AbortController();
      const asked = host
        .graphql("acme", "{ slow(seconds: 30) }", { signal: stop.signal })
        .catch(() => "cancelled");
      await database.asleep();
      stop.abort();
      expect(await asked).toBe("cancelled");
      await expect
        .poll(() =>
          database.query(
            "select from pg_stat_activity where query ~ 'slow' and state = 'active' and datname = current_database() and pid <> pg_backend_pid()",
          ),
        )
        .toEqual([]);
      expect(await host.data("acme", "{ found }")).toEqual({ found: "" });
    });

    it("schema changes are noticed through a direct listenUrl", async () => {
      await database.change("initech", "alter table item add column weight integer");
      await expect
        .poll(async () => (await host.graphql("initech", "{ itemByRowId(rowId: 1) { weight } }")).data)
        .toEqual({ itemByRowId: { weight: null } });
      expect(
        host.process.linesOf("config.warning").filter(({ path }) => String(path).startsWith("databases.")),
      ).toEqual([]);
    });

    it("a migration leaves nothing of its session behind", async () => {
      const owner = bouncer.through(database.url);
      const { path: cwd, remove } = await directoryWith({
        "host.json": JSON.stringify({ databases: { main: { url: owner } }, tenants }),
        "change.sql": `alter table item add column migrated int; set timezone = 'Asia/Tokyo';
          select set_config('my.word', 'left', false), pg_advisory_lock(4712); create temp table left_behind (id int)`,
      });
      const args = ["migrate", "--config", "host.json", "--sql", "change.sql", "--tenant", "umbrella"];
      const { code, stderr } = await runCli({ args, cwd });
      expect({ code, stderr }).toMatchObject({ code: 0 });
      await remove();
      const clients = others.map(() => new Client({ connectionString: owner }));
      for (const each of clients) await each.connect();
      for (const each of clients) await each.query("begin");
      for (const each of clients) {
        const { rows } = await each.query(
          "select nullif(current_setting('my.word', true), '') as word, current_setting('TimeZone') <> 'Asia/Tokyo' as zone, to_regclass('pg_temp.left_behind') as temp, (select count(*)::int from pg_locks where locktype = 'advisory' and objid = 4712) as locks",
        );
        expect(rows).toEqual([{ word: null, zone: true, temp: null, locks: 0 }]);
      }
      for (const each of clients) await each.end();
    });

    it.each([
      ["url", () => ({ url })],
      ["listenUrl", () => ({ url: database.hostUrl, listenUrl: url })],
    ] as const)(
      "serve, check and doctor report that notifications do not arrive by %s",
      async (key, given) => {
        const config = { databases: { main: { ...given(), install: false } }, tenants, pooling: true };
        const deaf = await TestHost.start({ config });
        const { detail } = await deaf.process.line("config.warning", { path: `databases.main.${key}` });
        expect(detail).toMatch(/notifications do not arrive.*set databases\.main\.listenUrl/);
        await deaf.stop();
        const { path: cwd, remove } = await directoryWith({ "host.json": JSON.stringify(config) });
        // One command for each key, as both make the same check.
        if (key === "url") {
          const { code, stderr } = await runCli({ args: ["check", "--config", "host.json"], cwd });
          expect(code).toBe(1);
          expect(stderr).toContain("databases.main.url: notifications do not arrive");
        } else {
          const { stdout } = await runCli({ args: ["doctor", "--config", "host.json"], cwd });
          expect(stdout).toMatch(/^fail {2}listenUrl of database main: notifications do not arrive/m);
        }
        await remove();
      },
    );
  },
);
