/** The database of a bench: tenants of one shape, each with schemas, a role and rows of its own. */
import { rmSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QuoteUtils } from "@pgsql/quotes";
import pg from "pg";
import { installControl } from "../src/control/install.ts";
import { startEmbedded } from "../src/embedded/server.ts";
import { Database } from "../src/postgres/database.ts";
import { hideStatements } from "../src/shared/postgres/hidden-statements.ts";
import { familyCpuSeconds, privateMb } from "./processes.ts";

export interface BenchDatabase {
  /** Connects as the hosts' role: no superuser, but a member of every tenant's role. */
  readonly url: string;
  /** Connects as the role that owns everything, and that migrations run as. */
  readonly ownerUrl: string;
  readonly tenants: readonly BenchTenant[];
  /** Creates another tenant of the first shape. */
  add(tenant: BenchTenant): Promise<void>;
  /** Installs the control schema, which the guard needs. */
  installControl(): Promise<void>;
  /** Makes what only a superuser can install be there, or be missing. */
  setPrivileged(installed: boolean): Promise<void>;
  /** The backends of the hosts that are measured. */
  backends(): Promise<readonly Backend[]>;
  /** CPU seconds that the server has used, all its processes. */
  cpuSeconds(): Promise<number>;
  close(): Promise<void>;
}

export interface Backend {
  /** The connection's application name. */
  readonly application: string;
  readonly privateMb: number;
}

/** Private memory of several backends in MB. */
export const sumMb = (backends: readonly Backend[]): number =>
  backends.reduce((sum, { privateMb }) => sum + privateMb, 0);

export interface BenchTenant {
  readonly id: string;
  readonly schemas: { readonly app: string };
  readonly roles: { readonly anonymous: string };
}

/**
 * What `rowhouse install` adds if a superuser runs it, as statements that also take it away again: so that arms with and without
 * it alternate on the same database.
 */
const privileged = (installed: boolean): string => `
  alter event trigger rowhouse_ddl_command_end ${installed ? "enable always" : "disable"};
  alter event trigger rowhouse_sql_drop ${installed ? "enable always" : "disable"};
  ${installed ? hideStatements : showStatements}`;
const showStatements = "grant execute on function pg_catalog.pg_prepared_statement() to public";

const controlRights = `
  grant usage on schema rowhouse to bench_host;
  grant select on rowhouse.migration, rowhouse.schema_revision, rowhouse.tenant, rowhouse.tenant_host, rowhouse.event,
    rowhouse.realtime_host to bench_host;
  grant execute on function rowhouse.tenant_lock_key, rowhouse.register_realtime, rowhouse.unregister_realtime,
    rowhouse.sweep_events to bench_host`;

/** A table takes five locks with its index, sequence and TOAST, and a server of 100 connections has room for 6,400. */
const tablesAtOnce = 500;

/** A tenant's names, derived from its id. */
export const tenantCalled = (id: string): BenchTenant => ({
  id,
  schemas: { app: `${id}_app` },
  roles: { anonymous: `${id}_anonymous` },
});

const quoted = (name: string): string => QuoteUtils.quoteIdentifier(name);

/**
 * SQL for one tenant's tables, the same for all tenants of a shape: a chain of foreign keys, an enum, an index, and rows that
 * contain the tenant's name. Shapes differ in a column's name.
 */
function tenantSql({ id, schemas, roles }: BenchTenant, tables: number, shape: number): string {
  const schema = quoted(schemas.app);
  const role = quoted(roles.anonymous);
  const statements = [
    `create role ${role} nologin`,
    `grant ${role} to bench_host with inherit false, set true`,
    `create schema ${schema}`,
    `create type ${schema}.mood as enum ('calm', 'busy', 'closed')`,
  ];
  for (let ordinal = 1; ordinal <= tables; ordinal += 1) {
    const parent = ordinal === 1 ? "" : `, parent_id integer references ${schema}.t${ordinal - 1}_item`;
    statements.push(
      `create table ${schema}.t${ordinal}_item (
        id integer generated always as identity primary key,
        name text not null,
        note text,
        mood ${schema}.mood not null default 'calm',
        amount numeric(12, 2) not null default 0,
        created_at timestamptz not null default now()${ordinal === 1 && shape > 0 ? `, only_${shape} integer` : ""}${parent})`,
      `insert into ${schema}.t${ordinal}_item (name, note${ordinal === 1 ? "" : ", parent_id"})
        select '${id} item ' || n, 'note ' || n${ordinal === 1 ? "" : ", 1 + n % 10"} from generate_series(1, 20) n`,
    );
    if (ordinal > 1) statements.push(`create index on ${schema}.t${ordinal}_item (parent_id)`);
  }
  statements.push(
    `grant usage on schema ${schema} to ${role}`,
    `grant select, insert, update, delete on all tables in schema ${schema} to ${role}`,
  );
  return statements.join(";\n");
}

/**
 * Starts a server with `tenants` tenants of `tables` tables each, of `shapes` shapes in turn; `close` removes it. `furtherSql`
 * adds statements to those that create each tenant.
 */
export async function benchDatabase(
  tenants: number,
  tables: number,
  shapes = 1,
  furtherSql: (tenant: BenchTenant, index: number) => string = () => "",
): Promise<BenchDatabase> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-bench-"));
  // An interrupted bench ends at once: its server stops by itself, but would leave its data.
  const removeAtExit = (): void => rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  process.once("exit", removeAtExit);
  const server = await startEmbedded({ directory, persistent: false });
  const list = Array.from({ length: tenants }, (_, index) =>
    tenantCalled(`t${String(index + 1).padStart(4, "0")}`),
  );
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  await admin.query("create role bench_host login password 'bench'");
  const texts = list.map(
    (tenant, index) => `${tenantSql(tenant, tables, index % shapes)};\n${furtherSql(tenant, index)}`,
  );
  // A text is one transaction: several tenants in each save half the time, as long as their locks fit.
  const tenantsAtOnce = Math.max(1, Math.floor(tablesAtOnce / tables));
  for (let from = 0; from < texts.length; from += tenantsAtOnce) {
    await admin.query(texts.slice(from, from + tenantsAtOnce).join(";\n"));
  }
  await admin.query("vacuum analyze");
  await admin.end();
  const url = new URL(server.url);
  url.username = "bench_host";
  url.password = "bench";
  const [pid = ""] = (await readFile(join(server.directory, "data", "postmaster.pid"), "utf8")).split("\n");
  return {
    url: url.href,
    ownerUrl: server.url,
    tenants: list,
    cpuSeconds: () => familyCpuSeconds(Number(pid)),
    async backends() {
      const owner = new pg.Client({ connectionString: server.url });
      await owner.connect();
      const { rows } = await owner.query<{ pid: number; application: string }>(
        "select pid, application_name as application from pg_stat_activity where usename = 'bench_host'",
      );
      await owner.end();
      return Promise.all(
        rows.map(async ({ pid, application }) => ({ application, privateMb: await privateMb(pid) })),
      );
    },
    async add(tenant) {
      const owner = new pg.Client({ connectionString: server.url });
      await owner.connect();
      await owner.query(tenantSql(tenant, tables, 0));
      await owner.end();
    },
    async installControl() {
      const owner = new Database({
        name: "main",
        url: server.url,
        applicationName: "rowhouse:bench",
        observe: () => undefined,
      });
      await installControl(owner, () => undefined);
      await owner.transaction((transaction) => transaction.execute(controlRights));
      await owner.close();
    },
    async setPrivileged(installed) {
      const owner = new pg.Client({ connectionString: server.url });
      await owner.connect();
      await owner.query(privileged(installed));
      await owner.end();
    },
    close: async () => {
      await server.close();
      await rm(directory, { recursive: true, force: true });
      process.off("exit", removeAtExit);
    },
  };
}
