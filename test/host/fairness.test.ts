import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

const ids = ["loud", "quiet", "other"];

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("fairness");
  const tenants = [];
  for (const id of ids) tenants.push(await database.tenant(id));
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 4 } },
      tenants,
      pooling: true,
      cells: { memoryMb: 900, heapMb: 192, max: 3, quarantineShare: 0.5, quarantineWindow: "2s" },
    },
    connected: database.connected,
  });
  for (const id of ids) await host.data(id, itemsQuery);
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

let texts = 0;
/** A new text each time, whose planning keeps a thread busy for a while. */
function heavy(): string {
  texts += 1;
  const fields = Array.from(
    { length: 8 },
    (_, n) => `a${texts}_${n}: allItems(first: 1) { nodes { label } }`,
  );
  return `{ ${fields.join(" ")} }`;
}

describe("a tenant of a pooled instance", () => {
  it("shows its waiting requests in the status and the metrics", async () => {
    const burst = Array.from({ length: 40 }, () => host.data("loud", heavy()));
    await expect.poll(() => host.metric("requests_queued")).toBeGreaterThan(0);
    await Promise.all(burst);
    await expect.poll(() => host.metric("requests_queued")).toBe(0);
    const { cells } = await host.adminJson("/status");
    expect(cells.map(({ queued }: { queued: number }) => queued)).not.toContain(undefined);
  });

  it("never has a waiting request run whose client has gone away", async () => {
    const burst = Array.from({ length: 20 }, () => host.data("loud", heavy()));
    await expect.poll(() => host.metric("requests_queued")).toBeGreaterThan(5);
    const [{ count: before }] = await counted("loud");
    const writes = Array.from({ length: 10 }, () => {
      const controller = new AbortController();
      const asking = host.graphql(
        "loud",
        'mutation { addItem(input: { label: "ghost", mood: calm }) { item { rowId } } }',
        {
          signal: controller.signal,
        },
      );
      return {
        controller,
        asking: asking.then(
          () => "answered",
          () => "gone",
        ),
      };
    });
    await expect.poll(() => host.metric("requests_queued")).toBeGreaterThan(10);
    for (const { controller } of writes) controller.abort();
    const gone = (await Promise.all(writes.map(({ asking }) => asking))).filter((each) => each === "gone");
    await Promise.all(burst);
    await expect.poll(() => host.metric("requests_queued")).toBe(0);
    const [{ count: after }] = await counted("loud");
    expect(gone.length).toBeGreaterThan(0);
    expect(Number(after) - Number(before)).toBeLessThanOrEqual(writes.length - gone.length);
  });

  it("that uses more than its share is quarantined while others have requests, and no request fails", async () => {
    let over = false;
    const loud = Array.from({ length: 3 }, async () => {
      while (!over) await host.data("loud", heavy());
    });
    const quiet = (async () => {
      while (!over) await host.data("quiet", itemsQuery);
    })();
    type Instance = { readonly quarantined: string | null; readonly tenants: number };
    const isolated = async (): Promise<(string | null)[]> => {
      const { cells } = await host.adminJson("/status");
      const instances: Instance[] = cells.flatMap((cell: { instances: Instance[] }) => cell.instances);
      return instances.map(({ quarantined }) => quarantined).filter((tenant) => tenant !== null);
    };
    await expect.poll(isolated).toEqual(["loud"]);
    expect(await host.metric("quarantined_tenants")).toBe(1);
    over = true;
    await Promise.all([...loud, quiet]);
    expect(await host.metric("quarantines_total")).toBe(1);
    await host.process.line("tenant.quarantined", { tenant: "loud" });
    // The quarantined instance answers like the shared one.
    expect(await host.data("loud", itemsQuery)).toEqual(await host.data("loud", itemsQuery));
    await expect.poll(isolated, { timeout: 60_000 }).toEqual([]);
    await host.process.line("tenant.released", { tenant: "loud", why: "calm" });
    expect((await host.data("loud", itemsQuery)).allItems).toBeDefined();
  });
});

async function counted(tenant: string): Promise<[{ count: string }]> {
  const [row] = await database.query<{ count: string }>(
    `select count(*) from canary_${tenant}.item where label = 'ghost'`,
  );
  if (row === undefined) throw new Error("no count");
  return [row];
}

describe("variables", () => {
  it("that are too large are refused before anything walks them, and others are served", async () => {
    const variables = { ids: Array.from({ length: 150_000 }, (_, n) => n) };
    const { status, code } = await host.graphql("loud", "query ($ids: [Int]) { __typename }", { variables });
    expect([status, code]).toEqual([400, "VARIABLES_TOO_LARGE"]);
    expect(await host.data("quiet", "{ __typename }")).toEqual({ __typename: "Query" });
  });
});
