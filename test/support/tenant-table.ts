/** A control table with two tenants, a source on it, and a record of the source's queries and observations. */
import { EventEmitter, once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { installControl } from "../../src/control/install.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { Database } from "../../src/postgres/database.ts";
import { Listener } from "../../src/postgres/listener.ts";
import type { TenantSource } from "../../src/tenants/source.ts";
import { tableSource } from "../../src/tenants/table-source.ts";
import { createDatabase, type TestDatabase } from "./database.ts";

const defaults = { database: "main", databases: ["main", "other"] };

export class TenantTable {
  readonly listenerName = "rowhouse:test:listen";
  readonly events = new EventEmitter();
  seen: Observation[] = [];
  changes: (string | null)[] = [];
  /** The names that the source asked the database for. */
  asked: string[] = [];
  #gate: Promise<void> | undefined;
  nowMs = 1;
  #started: { test: TestDatabase; database: Database; listener: Listener; source: TenantSource } | undefined;

  get source(): TenantSource {
    return this.#parts.source;
  }

  get test(): TestDatabase {
    return this.#parts.test;
  }

  get #parts() {
    if (this.#started === undefined) throw new Error("not started");
    return this.#started;
  }

  /** Another source on the same table and listener. To receive notifications, it must be made before the listener opens. */
  make(database: Database = this.#parts.database, listener: Listener = this.#parts.listener): TenantSource {
    const source = tableSource({
      database: {
        query: async (text, values) => {
          if (values.length > 0) this.asked.push(values.flat().join(" "));
          const gate = this.#gate;
          this.#gate = undefined;
          const answer = await database.query(text, values);
          this.events.emit("answered");
          await gate;
          return answer;
        },
      },
      listener,
      defaults,
      observe: (observation) => this.#observe(observation),
      clock: { now: () => this.nowMs },
    });
    source.onChange((id) => {
      this.changes.push(id);
      this.events.emit("changed");
    });
    return source;
  }

  /** Runs SQL, and waits until the source has been notified of the change. */
  async change(sql: string): Promise<void> {
    const told = once(this.events, "notified");
    await this.test.execute(sql);
    await told;
  }

  /** Holds back the answer to the next query until the returned function is called. */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate = promise;
    return resolve;
  }

  async create(): Promise<{ test: TestDatabase; database: Database }> {
    const test = await createDatabase("tenants");
    const database = connect(test.url);
    await installControl(database, () => {});
    return { test, database };
  }

  async open(test: TestDatabase, database: Database): Promise<void> {
    Object.assign(this, { seen: [], changes: [], asked: [], nowMs: 1 });
    this.#gate = undefined;
    const observe = (observation: Observation): void => this.#observe(observation);
    const { url } = test;
    const listener = new Listener({
      name: "main",
      url,
      applicationName: this.listenerName,
      observe,
      retryMs: 100,
    });
    this.#started = { test, database, listener, source: this.make(database, listener) };
    await test.execute(`
      truncate rowhouse.tenant cascade;
      insert into rowhouse.tenant (id, hosts, schemas, roles, settings) values
        ('acme', '{ACME.Example., bücher.example}', '[{"logical": "z", "physical": "acme_z"}, "acme_a"]',
         '{"anonymous": "acme_anonymous"}', '{"beta": true}'),
        ('globex', '{globex.example}', '["globex"]', null, null)`);
    // After the source's own handler.
    listener.on("rowhouse_tenant", () => this.events.emit("notified"));
    await listener.open();
  }

  async close(): Promise<void> {
    await this.#parts.source.close();
    await this.#parts.listener.close();
  }

  #observe(observation: Observation): void {
    this.seen.push(observation);
  }
}

export function connect(url: string): Database {
  return new Database({ name: "main", url, applicationName: "rowhouse:test:front", observe: () => {} });
}

/** To be called once, at the top of a test file: the table is made once, its rows and the source for each test. */
export function tenantTable(): TenantTable {
  const table = new TenantTable();
  let made: Awaited<ReturnType<TenantTable["create"]>>;
  beforeAll(async () => {
    made = await table.create();
  });
  beforeEach(() => table.open(made.test, made.database));
  afterEach(() => table.close());
  afterAll(async () => {
    await made.database.close();
    await made.test.drop();
  });
  return table;
}
