/** A database with the guard's functions, and connections that use them as writes and migrations do. */
import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from "vitest";
import { createDatabase, type TestDatabase } from "./database.ts";
import { installGuard, revisionOf } from "./guard-control.ts";

export type Backend = Client & { readonly pid: number };

export const changed = { code: "RW409", message: "the schema has changed" };

export class GuardDatabase {
  /** The host's role: it owns nothing and may only use the control schema. */
  readonly role = `guarded_${randomBytes(4).toString("hex")}`;
  /** The revision of schema `shop` when the test began. */
  before = "";
  readonly #clients: Client[] = [];
  #test: TestDatabase | undefined;

  get test(): TestDatabase {
    if (this.#test === undefined) throw new Error("not open");
    return this.#test;
  }

  async open(): Promise<void> {
    this.#test = await createDatabase("guard_sql");
    await installGuard(this.#test);
    await this.#test.execute(`
      create role ${this.role} login password 'word';
      grant usage on schema rowhouse to ${this.role};
      grant execute on function rowhouse.begin_write to ${this.role};
      create schema shop; create schema other; create table shop.item (id int)`);
  }

  /** Connects as the host's role, until the end of the test. */
  host(): Promise<Backend> {
    return this.#connect(this.test.urlAs(this.role, "word"));
  }

  /** Connects as the owner of everything, until the end of the test. */
  owner(): Promise<Backend> {
    return this.#connect(this.test.url);
  }

  async #connect(url: string): Promise<Backend> {
    const client = new Client({ connectionString: url });
    client.on("error", () => {});
    await client.connect();
    this.#clients.push(client);
    const { rows } = await client.query("select pg_backend_pid() as pid");
    return Object.assign(client, { pid: Number(rows[0].pid) });
  }

  revision(schema = "shop"): Promise<string> {
    return revisionOf(this.test, schema);
  }

  /** Resolves when the backend waits for an advisory lock. */
  async blocked(pid: number): Promise<void> {
    await vi.waitFor(
      async () => {
        const rows = await this.test.query(
          `select l.mode from pg_locks l join pg_stat_activity a using (pid)
            where l.pid = $1 and l.locktype = 'advisory' and not l.granted and a.wait_event_type = 'Lock'`,
          [pid],
        );
        expect(rows).toHaveLength(1);
      },
      { timeout: 20_000, interval: 10 },
    );
  }

  async disconnect(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.end()));
  }

  async close(): Promise<void> {
    await this.test.execute(`drop owned by ${this.role}; drop role ${this.role}`);
    await this.test.drop();
  }
}

export const beginWrite = (client: Client, revisions: readonly string[]): Promise<unknown> =>
  client.query("select rowhouse.begin_write('acme', array['shop'], $1)", [revisions]);

export const assertRevisions = (
  client: Client,
  revisions: readonly string[],
  schemas = ["shop"],
): Promise<unknown> => client.query("select rowhouse.assert_revisions($1, $2)", [schemas, revisions]);

export const lockExclusively = (client: Client, tenant = "acme"): Promise<unknown> =>
  client.query("select rowhouse.lock_tenant($1)", [tenant]);

/** To be called once, at the top of a test file. */
export function guardDatabase(): GuardDatabase {
  const made = new GuardDatabase();
  beforeAll(() => made.open());
  beforeEach(async () => {
    made.before = await made.revision();
  });
  afterEach(() => made.disconnect());
  afterAll(() => made.close());
  return made;
}
