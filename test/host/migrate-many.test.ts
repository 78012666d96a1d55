import { afterAll, beforeAll, expect, it } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

const ids = Array.from({ length: 100 }, (_, index) => `t${index}`);
let database: TenantDatabase;
const tenants: TenantRecord[] = [];

beforeAll(async () => {
  database = await createTenantDatabase("many");
  for (const id of ids) tenants.push(await database.tenant(id));
});
afterAll(() => database.drop());

it("migrating a hundred tenants of one blueprint while they are served takes one build", async () => {
  const host = await TestHost.start({
    config: { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling: true },
    connected: database.connected,
  });
  const builds = (): Promise<number> => host.metric('builds_total{result="ok"}');
  const label = (id: string): Promise<unknown> => host.data(id, "{ itemByRowId(rowId: 1) { label } }");
  for (const id of ids) await label(id);
  expect(await builds()).toBe(1);
  const { path } = await directoryWith({
    "host.json": JSON.stringify({ databases: { main: { url: database.url } }, tenants, pooling: true }),
    "change.sql": "alter table item add column added text default 'new'",
  });
  let over = false;
  let asked = 0;
  const serving = (async () => {
    for (let n = 0; !over; n += 1) {
      await label(ids[n % ids.length] ?? "");
      asked += 1;
    }
  })();
  const args = ["migrate", "--config", "host.json", "--sql", "change.sql", "--all", "--parallel", "4"];
  const { code, stdout } = await runCli({ args, cwd: path });
  over = true;
  await serving;
  expect(code, stdout).toBe(0);
  expect(asked).toBeGreaterThan(10);
  for (const id of ids) {
    expect(await host.data(id, "{ itemByRowId(rowId: 1) { label added } }")).toEqual({
      itemByRowId: { label: `canary_${id} one`, added: "new" },
    });
  }
  expect(await builds()).toBe(2);
  await host.stop();
});
