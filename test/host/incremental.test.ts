import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

/** Returns as soon as nobody holds the lock. */
const gated = `
  create function gated() returns text language plpgsql stable as
  $$ begin perform pg_advisory_xact_lock(1, 1); return (select label from item order by id limit 1); end $$`;

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("incremental_host");
  const tenants = [await database.tenant("ada", gated), await database.tenant("bob", gated)];
  const preset = `
    import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
    import { StreamDeferPlugin } from ${JSON.stringify(import.meta.resolve("postgraphile/graphile-build"))};
    export default { extends: [PostGraphileAmberPreset], plugins: [StreamDeferPlugin] };`;
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants,
      pooling: true,
      preset: "./preset.mjs",
    },
    files: { "preset.mjs": preset },
    connected: database.connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

const ask = (query: string, signal?: AbortSignal) =>
  request(`${host.url}/graphql`, {
    method: "POST",
    headers: {
      "x-tenant": "ada",
      "content-type": "application/json",
      accept: "multipart/mixed;deferSpec=20220824, application/json",
    },
    body: JSON.stringify({ query }),
    ...(signal === undefined ? {} : { signal }),
  });

const sleeping = () =>
  database.query(
    "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
  );
const inFlight = async (): Promise<number> => {
  const { cells } = await host.adminJson("/status");
  return cells.reduce((sum: number, cell: { inFlight: number }) => sum + cell.inFlight, 0);
};

describe("an answer in parts", () => {
  it("is sent as it is ready: the first part while the database still works on the second", async () => {
    await database.query("select pg_advisory_lock(1, 1)");
    const { headers, body } = await ask("{ itemByRowId(rowId: 1) { label } ... @defer { gated } }");
    expect(headers["content-type"]).toMatch(/^multipart\/mixed/);
    let text = "";
    let early: string | null = null;
    for await (const chunk of body) {
      text += chunk;
      if (early !== null || !text.includes("canary_ada one")) continue;
      early = text;
      // The second part, if it has begun, has been waiting for this.
      await database.query("select pg_advisory_unlock(1, 1)");
    }
    expect(early).not.toContain("gated");
    expect(text).toContain('"gated":"canary_ada one"');
    host.sentinel.see("ada", text);
    await vi.waitFor(async () => expect(await inFlight()).toBe(0), { timeout: 20_000, interval: 20 });
  });

  it("whose client leaves ends its statement and frees its slot, and so does the next one in that slot", async () => {
    for (let round = 0; round < 2; round += 1) {
      const leaving = new AbortController();
      const { body } = await ask("{ __typename ... @defer { slow(seconds: 60) } }", leaving.signal);
      await database.asleep();
      const reading = body.text();
      leaving.abort();
      await expect(reading).rejects.toThrow();
      await vi.waitFor(async () => expect(await sleeping()).toEqual([]), { timeout: 20_000, interval: 20 });
      await vi.waitFor(async () => expect(await inFlight()).toBe(0), { timeout: 20_000, interval: 20 });
    }
    expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
  });
});
