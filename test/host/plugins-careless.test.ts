import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GraphqlAnswer } from "../support/exchanged.ts";
import { TestHost } from "../support/host.ts";
import { carelessPresetFile } from "../support/host-files.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

let database: TenantDatabase;
const tenants: TenantRecord[] = [];
const ids = ["t0", "t1", "t2"];

beforeAll(async () => {
  database = await createTenantDatabase("careless");
  for (const id of ids) tenants.push(await database.tenant(id));
});
afterAll(() => database.drop());

const query = "query ($way: String!) { careless(way: $way) }";

describe.each([true, false])("a careless plugin, with pooling %s", (pooling) => {
  let host: TestHost;
  beforeAll(async () => {
    host = await TestHost.start({
      config: {
        databases: { main: { url: database.hostUrl, install: false } },
        tenants,
        pooling,
        preset: carelessPresetFile,
        // One cell: what is built for three tenants is built into one thread.
        cells: { max: 1, spare: 0 },
      },
      // An error's words are then for the log alone: PostgreSQL's may name another tenant's schema.
      env: { NODE_ENV: "production" },
      connected: database.connected,
    });
    for (const id of ids) await host.data(id, "{ __typename }");
    const { cells } = await host.adminJson("/status");
    expect(cells).toHaveLength(1);
    expect(cells[0].instances).toHaveLength(pooling ? 1 : ids.length);
  });
  // That no answer held a foreign canary is held at the stop.
  afterAll(() => host.stop());

  /** Why the log says that `answer` has no data. */
  const reasonOf = async ({ data, errors }: GraphqlAnswer): Promise<string> => {
    expect(data).toEqual({ careless: null });
    const [, id] = /logged with id ([0-9a-f-]+)/.exec(errors?.[0]?.message ?? "") ?? [];
    const found = (): string | undefined =>
      host.process.output.split("\n").find((line) => id !== undefined && line.includes(`error ${id}: `));
    return (await host.process.until(found, 10_000)) ?? "not in the log";
  };

  const ask = (tenant: string, way: string): Promise<GraphqlAnswer> =>
    host.graphql(tenant, query, { variables: { way } });
  const refused = async (tenant: string, way: string, why: RegExp): Promise<void> => {
    expect(await reasonOf(await ask(tenant, way))).toMatch(why);
  };

  it("gets no rows of a request whose context lay in its variable", async () => {
    const answers = await Promise.all(["t0", "t1"].map((id) => ask(id, "context")));
    // Whichever came last had its own; the other found that one's, and was refused.
    const [own, found] = answers.toSorted((a, b) => (a.errors?.length ?? 0) - (b.errors?.length ?? 0));
    expect(own?.data.careless).toMatch(/^canary_t[01] one$/);
    expect(found && (await reasonOf(found))).toMatch(/settings of another request/);
    // Both have been answered.
    await refused("t2", "kept", /settings of another request|request that has ended/);
  });

  it.each<[string, RegExp]>([
    ["nobody", /without the request's settings/],
    ["forged", /role does not belong to this tenant/],
    ["path", /search_path is reserved for the host/],
  ])("is refused by the adaptor: %s", async (way, why) => {
    for (const id of ids) await refused(id, way, why);
  });

  it("gets its own rows by a schema's name that it kept while it was built, whichever build came last", async () => {
    for (const id of ids) expect((await ask(id, "baked")).data).toEqual({ careless: `canary_${id} one` });
  });

  it("gets no rows by a schema's name that was written into it, but the tenant whose it is", async () => {
    expect((await host.graphql("t0", query, { variables: { way: "written" } })).data.careless).toBe(
      "canary_t0 one",
    );
    for (const id of ["t1", "t2"]) await refused(id, "written", /permission denied for schema canary_t0/);
  });
});
