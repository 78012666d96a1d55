import { afterAll, beforeAll, expect, it } from "vitest";
import { create, Hand } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, schemaOf, type TenantDatabase } from "../support/host-tenants.ts";

const ids = Array.from({ length: 8 }, (_, index) => `t${index}`);
const changesEach = 5;

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("settling");
  const tenants = [];
  for (const id of ids) tenants.push(await database.tenant(id));
  const { hostUrl, connected } = database;
  host = await TestHost.start({
    config: {
      databases: { main: { url: hostUrl, install: false } },
      tenants,
      pooling: true,
      limits: { requestTimeout: "60s" },
    },
    connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

it("with every tenant's schema changing without a pause, even a cold host makes all writes, once each", async () => {
  let going = true;
  const written = new Map(ids.map((id) => [id, 0]));
  const writer = async (index: number): Promise<void> => {
    for (let n = 0; going || n < 20; n += 1) {
      const id = ids[(index + n) % ids.length] ?? "";
      const label = `canary_${id} settling ${index} ${n}`;
      expect(await host.data(id, `mutation { ${create(label)} }`)).toEqual({ made: { item: { label } } });
      written.set(id, (written.get(id) ?? 0) + 1);
    }
  };
  const writers = Promise.all(Array.from({ length: 8 }, (_, index) => writer(index)));
  let failed = false;
  writers.catch(() => {
    failed = true;
  });
  const hands = await Promise.all(ids.map((id) => Hand.open(database, id)));
  const retried = () => host.process.linesOf("request.retried").length;
  for (let n = 0; !failed && (n < changesEach || retried() < ids.length); n += 1) {
    for (const hand of hands)
      await hand.run(`alter table item add column extra_${n} integer not null default ${n}`);
  }
  going = false;
  await writers;
  await Promise.all(hands.map((hand) => hand.close()));
  for (const id of ids) {
    const rows = await database.query(
      `select count(*)::int as n, count(distinct label)::int as labels from ${schemaOf(id)}.item where label ~ 'settling'`,
    );
    expect(rows, id).toEqual([{ n: written.get(id), labels: written.get(id) }]);
  }
  expect(await host.metric("guard_exhausted_total")).toBe(0);
});
