/** What tests of the guard need beside a host: manual connections to the database, and gates where writes are held up. */
import { Client, escapeIdentifier as quote } from "pg";
import { expect, vi } from "vitest";
import type { TestHost } from "./host.ts";
import { schemaOf, type TenantDatabase } from "./host-tenants.ts";

/** A mutation that waits at its tenant's gate, inside its transaction and before it has locked anything else. */
export const gatedMutation = `
create function add_gated(label label) returns item language plpgsql volatile as $$
declare made item;
begin
  perform pg_advisory_xact_lock_shared(hashtext('gate ' || current_schema()));
  insert into item (label) values (add_gated.label) returning * into made;
  return made;
end $$;
create function add_slowly(label label) returns item language plpgsql volatile as $$
declare made item;
begin
  perform pg_sleep(1);
  insert into item (label) values (add_slowly.label) returning * into made;
  return made;
end $$;
`;

/** A URL where the host listens but nobody notifies, so that it learns of schema changes only from its guard. */
export function deafUrl({ hostUrl }: TenantDatabase): string {
  const url = new URL(hostUrl);
  url.pathname = "/postgres";
  return url.href;
}

export const create = (label: string, alias = "made"): string =>
  `${alias}: createItem(input: { item: { label: "${label}" } }) { item { label } }`;
export const createGated = (label: string, alias = "made"): string =>
  `${alias}: addGated(input: { label: "${label}" }) { clientMutationId }`;

/** A manual connection, like psql's: it tells the host nothing. */
export class Hand {
  readonly #client: Client;
  readonly #tenant: string;

  private constructor(client: Client, tenant: string) {
    this.#client = client;
    this.#tenant = tenant;
  }

  static async open(database: TenantDatabase, tenant: string): Promise<Hand> {
    const client = new Client({ connectionString: database.url, application_name: "hand" });
    client.on("error", () => {});
    await client.connect();
    await client.query(`set search_path = ${quote(schemaOf(tenant))}, pg_temp`);
    return new Hand(client, tenant);
  }

  async run(sql: string): Promise<Record<string, unknown>[]> {
    return (await this.#client.query(sql)).rows ?? [];
  }

  /** Begins a migration as the guard's protocol requires: with the tenant's lock first. */
  async beginMigration(): Promise<void> {
    await this.run(`begin; select rowhouse.lock_tenant('${this.#tenant}')`);
  }

  async closeGate(): Promise<void> {
    await this.run("select pg_advisory_lock(hashtext('gate ' || current_schema()))");
  }

  async openGate(): Promise<void> {
    await this.run("select pg_advisory_unlock(hashtext('gate ' || current_schema()))");
  }

  /** Lets exactly one write through: the waiting one gets the lock before this connection asks for it again. */
  async letOneThrough(): Promise<void> {
    const gate = "hashtext('gate ' || current_schema())";
    await this.run(`select pg_advisory_unlock(${gate}), pg_advisory_lock(${gate})`);
  }

  close(): Promise<void> {
    return this.#client.end();
  }
}

/** Resolves when exactly `count` connections of hosts' cells wait for a lock of that type. */
export async function held(
  database: TenantDatabase,
  count = 1,
  locktype: "advisory" | "relation" = "advisory",
): Promise<void> {
  await vi.waitFor(
    async () => {
      const rows = await database.query(
        `select distinct l.pid from pg_locks l join pg_stat_activity a using (pid)
          where a.datname = current_database() and a.application_name ~ '^rowhouse:[0-9a-f]{8}:'
            and l.locktype = $1 and not l.granted and a.wait_event_type = 'Lock'`,
        [locktype],
      );
      expect(rows).toHaveLength(count);
    },
    { timeout: 20_000, interval: 10 },
  );
}

/** How often a label occurs in a tenant's table. */
export async function countOf(database: TenantDatabase, tenant: string, label: string): Promise<number> {
  const rows = await database.query(
    `select count(*)::int as n from ${quote(schemaOf(tenant))}.item where label = $1`,
    [label],
  );
  return Number(rows[0]?.["n"]);
}

const counters = {
  failures: "guard_failures_total",
  retries: "guard_retries_total",
  exhausted: "guard_exhausted_total",
  reads: "schema_reads_total",
  builds: 'builds_total{result="ok"}',
} as const;

export type GuardFigures = Record<keyof typeof counters, number>;

async function figuresOf(host: TestHost): Promise<GuardFigures> {
  const metrics = await host.metrics();
  const entries = Object.entries(counters).map(([name, metric]) => [
    name,
    metrics.get(`rowhouse_${metric}`) ?? 0,
  ]);
  return Object.fromEntries(entries);
}

/** How much the figures have changed since the call. */
export async function figuresSince(host: TestHost): Promise<() => Promise<GuardFigures>> {
  const before = await figuresOf(host);
  return async () => {
    const now = await figuresOf(host);
    return {
      failures: now.failures - before.failures,
      retries: now.retries - before.retries,
      exhausted: now.exhausted - before.exhausted,
      reads: now.reads - before.reads,
      builds: now.builds - before.builds,
    };
  };
}
