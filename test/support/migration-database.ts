/** A database with the control schema and two small tenants of one shape, to be migrated. */
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { type Migrated, type MigrationRequest, migrateTenant } from "../../src/control/tenant-migration.ts";
import { Database } from "../../src/postgres/database.ts";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "./database.ts";

export const openForMigrations = (url: string): Database =>
  new Database({
    name: "main",
    url,
    applicationName: "rowhouse:test:migrate",
    observe: () => {},
    maxConnections: 4,
    freshConnections: true,
  });

/** The tenants `acme` and `globex`, whose schemas are recreated for each test; any other id has no schema. */
export const migratedTenant = (id: string): Tenant =>
  parseTenant(
    { id, schemas: { app: `${id}_app` }, sharedSchemas: ["shared"] },
    { database: "main", databases: ["main"] },
  );

export const acme = migratedTenant("acme");

/** What can be seen of a tenant from outside: its shape and its revisions. */
export async function seenOf(through: Database, tenant: Tenant) {
  const { text, values } = shapeQuery(tenant, { revisions: true });
  const { shape, revisions } = parseShape((await through.query(text, values)).rows[0]);
  return { shape, revisions };
}

export class MigrationDatabase {
  readonly #clients: Client[] = [];
  #open: { test: TestDatabase; database: Database } | undefined;

  get test(): TestDatabase {
    return this.#parts.test;
  }

  get database(): Database {
    return this.#parts.database;
  }

  get #parts() {
    if (this.#open === undefined) throw new Error("not open");
    return this.#open;
  }

  migrate(sql: string, request: Omit<MigrationRequest, "sql"> = {}, tenant = acme): Promise<Migrated> {
    return migrateTenant(this.database, tenant, { sql, ...request });
  }

  seen(tenant = acme) {
    return seenOf(this.database, tenant);
  }

  /** Opens a connection until the end of the test. */
  async connect(): Promise<Client> {
    const client = new Client({ connectionString: this.test.url });
    client.on("error", () => {});
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  async open(): Promise<void> {
    const test = await createDatabase("migrate");
    await withoutJit(test);
    this.#open = { test, database: openForMigrations(test.url) };
    await installControl(this.database, () => {});
    await test.execute("create schema shared; create schema elsewhere");
  }

  async renew(): Promise<void> {
    await this.test.execute(`
      drop schema if exists acme_app, globex_app cascade; truncate rowhouse.applied;
      create schema acme_app; create table acme_app.item (id int primary key, label text);
      create schema globex_app; create table globex_app.item (id int primary key, label text)`);
  }

  async disconnect(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.end()));
  }

  async close(): Promise<void> {
    await this.database.close();
    await this.test.drop();
  }
}

/** Turns JIT off, with which the shape's query takes 30 times as long. */
export const withoutJit = (test: TestDatabase): Promise<void> =>
  test.execute(`alter database ${test.name} set jit = off`);

/** To be called once, at the top of a test file. */
export function migrationDatabase(): MigrationDatabase {
  const made = new MigrationDatabase();
  beforeAll(() => made.open());
  beforeEach(() => made.renew());
  afterEach(() => made.disconnect());
  afterAll(() => made.close());
  return made;
}
