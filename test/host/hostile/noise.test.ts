import { describe, expect, it, vi } from "vitest";
import type { GraphqlAnswer } from "../../support/exchanged.ts";
import { itemsOf, itemsQuery } from "../../support/host-tenants.ts";
import { hostileHost } from "../../support/hostile-host.ts";

const share = 12;
const hostile = hostileHost({ limits: { tenantInFlight: share, requestTimeout: "60s" }, cells: { max: 1 } });

const slow = (tenant: string, signal: AbortSignal): Promise<GraphqlAnswer | null> =>
  hostile.at.host.graphql(tenant, "{ slow(seconds: 50) }", { signal }).catch(() => null);

/** Resolves when `count` requests sleep in PostgreSQL. */
const asleep = (count: number): Promise<void> =>
  vi.waitFor(
    async () => {
      const rows = await hostile.at.database.query(
        "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
      );
      expect(rows).toHaveLength(count);
    },
    { timeout: 20_000, interval: 20 },
  );

describe("a tenant with as many slow requests as it can have", () => {
  it("uses no more than its share of the cell, and holds up no other tenant", async () => {
    const { host } = hostile.at;
    const leaving = new AbortController();
    const mine = Array.from({ length: share }, () => slow("acme", leaving.signal));
    // The cell's four connections: tenants that hold none use the reserve.
    await asleep(4);
    for (let n = 0; n < 30; n += 1) {
      expect(await host.graphql("acme", itemsQuery)).toMatchObject({
        status: 503,
        code: "TENANT_BUSY",
        headers: { "retry-after": "1" },
      });
      expect(await host.data("globex", itemsQuery)).toEqual(itemsOf("globex"));
      expect(await host.data("hooli", itemsQuery)).toEqual(itemsOf("hooli"));
    }
    const write =
      'mutation { addItem(input: { label: "canary_globex gone again", mood: calm }) { result { rowId } } }';
    const { addItem } = await host.data("globex", write);
    await host.data(
      "globex",
      `mutation { deleteItemByRowId(input: { rowId: ${addItem.result.rowId} }) { clientMutationId } }`,
    );
    await asleep(4);

    leaving.abort();
    await Promise.all(mine);
    await asleep(0);
    await vi.waitFor(async () => expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme")), {
      timeout: 20_000,
    });
  });

  it("does not fill the log with its refusals", async () => {
    const { host } = hostile.at;
    const busy = host.process.linesOf("request.failed").filter(({ code }) => code === "TENANT_BUSY");
    expect(busy).toEqual([]);
    expect(await host.metric('requests_total{status="503"}')).toBeGreaterThanOrEqual(30);
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
