/** A tenant's empty schemas for one test after the other; what a test creates is removed before the next. */
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "./database.ts";

export interface FreshSchemas {
  readonly client: Client;
  /** The name of the database, which belongs to this file alone. */
  readonly name: string;
  /** The objects that a probe finds hidden after `sql` has run. */
  hiddenAfter(sql: string): Promise<readonly string[]>;
}

/** `one` and `two` are served, in this order; `public` is shared. */
export const freshInput = {
  schemas: [
    { logical: "app", physical: "one" },
    { logical: "crm", physical: "two" },
  ],
  sharedSchemas: ["public"],
  roles: { anonymous: null, authenticated: null },
};

/** Sets up a database for the test file, with `name` in its name, and an additional schema `private`. */
export function freshSchemas(name: string): FreshSchemas {
  let database: TestDatabase;
  let client: Client;
  beforeAll(async () => {
    database = await createDatabase(name);
    client = new Client({ connectionString: database.url });
    await client.connect();
    await client.query("begin; create schema one; create schema two; create schema private; savepoint fresh");
  });
  beforeEach(async () => {
    await client.query("rollback to savepoint fresh");
  });
  afterAll(async () => {
    await client.end();
    await database.drop();
  });
  return {
    get client() {
      return client;
    },
    get name() {
      return database.name;
    },
    async hiddenAfter(sql) {
      await client.query(sql);
      return parseShape((await client.query(shapeQuery(freshInput))).rows[0]).hidden;
    },
  };
}
