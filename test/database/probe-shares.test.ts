import { afterAll, beforeAll, expect, test } from "vitest";
import { Databases } from "../../src/control/databases.ts";
import { Decisions } from "../../src/decisions/decisions.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { advisoryWaits, createDatabase, type TestDatabase } from "../support/database.ts";

let server: TestDatabase;
let databases: Databases;
let decisions: Decisions;

const dozing = ["dozy", "drowsy", "tired", "weary"] as const;

const tenantOf = (id: string): Tenant =>
  parseTenant({ id, schemas: { app: id } }, { database: "main", databases: ["main"] });

beforeAll(async () => {
  server = await createDatabase("probe_shares");
  for (const id of [...dozing, "awake"]) await server.execute(`create schema ${id}`);
  // A view whose rows become an enum is read by every probe of its tenant's shape.
  for (const id of dozing) {
    await server.execute(`
      create view ${id}.kind as select 'a'::text as value from pg_advisory_xact_lock_shared(1);
      comment on view ${id}.kind is E'@primaryKey value\\n@enum'`);
  }
  const config = { url: server.url, listenUrl: server.url, poolSize: 1, poolReserve: 1, install: false };
  const observe = (): void => undefined;
  databases = await Databases.open({
    databases: { main: config },
    guard: "off",
    applicationName: "probes",
    observe,
  });
  const { database } = databases.get("main");
  decisions = new Decisions({
    database: () => ({
      together: (statements, tenant) => database.together(statements, tenant),
      control: false,
    }),
    pooling: true,
    guard: "off",
    presetVersion: "1",
    hostVersion: "1",
    observe,
  });
});
afterAll(async () => {
  await databases.close();
  await server.drop();
});

test("tenants whose enums are slow to read hold up neither another's decision nor work of no tenant", async () => {
  const decide = (id: string) => decisions.decide(tenantOf(id));
  const dozes = (count: number) =>
    expect.poll(() => advisoryWaits(server), { timeout: 20_000 }).toHaveLength(count);
  await server.query("select pg_advisory_lock(1)");
  const deciding = dozing.slice(0, 2).map(decide);
  await dozes(2);
  expect(await decide("awake")).toMatchObject({ tenant: { id: "awake" } });
  deciding.push(...dozing.slice(2).map(decide));
  await dozes(3);
  expect((await databases.get("main").database.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  expect(await advisoryWaits(server)).toHaveLength(3);
  await server.query("select pg_advisory_unlock(1)");
  expect((await Promise.all(deciding)).map(({ tenant }) => tenant.id)).toEqual(dozing);
});
