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
        // One cell, so that all three tenants' instances are built in one thread.
        cells: { max: 1, spare: 0 },
      },
      // Then error details go only to the log: PostgreSQL's may name another tenant's schema.
      env: { NODE_ENV: "production" },
      connected: database.connected,
    });
    for (const id of ids) await host.data(id, "{ __typename }");
    const { cells } = await host.adminJson("/status");
    expect(cells).toHaveLength(1);
    expect(cells[0].instances).toHaveLength(pooling ? 1 : ids.length);
  });
  // The stop asserts that no answer contained a foreign canary.
  afterAll(() => host.stop());

  /** The logged reason why `answer` has no data. */
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

  it("gets no rows of another request whose context it kept in a variable", async () => {
    const answers = await Promise.all(["t0", "t1"].map((id) => ask(id, "context")));
    // Whichever came last found its own context; the other found that one's and was refused.
    const [own, found] = answers.toSorted((a, b) => (a.errors?.length ?? 0) - (b.errors?.length ?? 0));
    expect(own?.data.careless).toMatch(/^canary_t[01] one$/);
    expect(found && (await reasonOf(found))).toMatch(/settings of another request/);
    // Both requests are over.
    await refused("t2", "kept", /settings of another request|request that has ended/);
  });

  it.each<[string, RegExp]>([
    ["nobody", /without the request's settings/],
    ["forged", /role does not belong to this tenant/],
    ["path", /search_path is reserved for the host/],
  ])("is refused by the adaptor: %s", async (way, why) => {
    for (const id of ids) await refused(id, way, why);
  });

  it("gets the requesting tenant's rows by a schema name kept from a build, whichever build came last", async () => {
    for (const id of ids) expect((await ask(id, "baked")).data).toEqual({ careless: `canary_${id} one` });
  });

  it("gets rows by a hard-coded schema name only for that schema's own tenant", async () => {
    expect((await host.graphql("t0", query, { variables: { way: "written" } })).data.careless).toBe(
      "canary_t0 one",
    );
    for (const id of ["t1", "t2"]) await refused(id, "written", /permission denied for schema canary_t0/);
  });
});
