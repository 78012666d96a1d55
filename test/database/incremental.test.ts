import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TenantGuard } from "../../src/shared/model/tenant-binding.ts";
import { receiveBody } from "../../src/shared/protocol/body-stream.ts";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installGuard } from "../support/guard-control.ts";
import { presetUrl, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const preset = presetUrl(`
  import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
  import { StreamDeferPlugin } from ${JSON.stringify(import.meta.resolve("postgraphile/graphile-build"))};
  export default { extends: [PostGraphileAmberPreset], plugins: [StreamDeferPlugin] };`);
const accept = "multipart/mixed;deferSpec=20220824, application/json";

let database: TestDatabase;
let worker: Worker;
let serv: CellServ;
beforeAll(async () => {
  database = await createDatabase("incremental");
  await database.execute(workerTenantSql("ada"));
  await database.execute("insert into ada.person (name) select 'more ' || n from generate_series(1, 500) n");
  await installGuard(database);
  worker = new Worker(database, { preset, production: true });
  serv = await worker.build("pooled", { app: "ada" });
});
afterAll(() => database.drop());

interface Part {
  readonly data?: object | null;
  readonly path?: readonly (string | number)[];
  readonly errors?: readonly { message: string; extensions?: { code?: string } }[];
  readonly hasNext?: boolean;
}

const partsOf = (text: string): Part[] =>
  text.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line)] : []));

async function partsFor(query: string, guard: TenantGuard | null = null): Promise<Part[]> {
  const { status, headers, text } = await worker.ask(serv, {
    tenant: "ada",
    query,
    headers: { accept },
    guard,
  });
  expect([status, headers["content-type"]]).toEqual([200, 'multipart/mixed; boundary="-"']);
  const parts = partsOf(text);
  expect(parts.map(({ hasNext }) => hasNext)).toEqual(parts.map((_, n) => n < parts.length - 1));
  return parts;
}

describe("incremental delivery", () => {
  it("sends the rows of @stream one by one, and the same ones as without it", async () => {
    const [first, ...others] = await partsFor(
      "{ allPeople(orderBy: PRIMARY_KEY_ASC) { nodes @stream(initialCount: 2) { name } } }",
    );
    const { json } = await worker.ask(serv, {
      tenant: "ada",
      query: "{ allPeople(orderBy: PRIMARY_KEY_ASC) { nodes { name } } }",
    });
    const { nodes } = json.data.allPeople;
    expect(nodes).toHaveLength(505);
    expect(first?.data).toEqual({ allPeople: { nodes: nodes.slice(0, 2) } });
    const rows = others.filter(({ data }) => data !== undefined);
    expect(rows.map(({ data }) => data)).toEqual(nodes.slice(2));
    expect(rows.map(({ path }) => path?.at(-1))).toEqual(rows.map((_, n) => n + 2));
  });

  it("sends what is outside @defer before what is inside", async () => {
    const [first, ...others] = await partsFor("{ whoami ... @defer { sleep(seconds: 0.01) } }");
    expect(first?.data).toEqual({ whoami: "ada ada, public, pg_temp" });
    expect(others.filter(({ data }) => data !== undefined)).toMatchObject([{ data: { sleep: 1 } }]);
  });

  it("reports SCHEMA_CHANGED in the part in which it was found, since earlier parts cannot be taken back", async () => {
    // The revision has moved since the request was routed.
    const guard = { reads: true, schemas: ["ada"], revisions: ["-1"], lock: "1" };
    const [first, ...others] = await partsFor("{ __typename ... @defer { whoami } }", guard);
    expect(first).toMatchObject({ data: { __typename: "Query" } });
    expect(others.flatMap(({ errors }) => errors ?? [])).toMatchObject([
      { message: "The schema changed while the request ran.", extensions: { code: "SCHEMA_CHANGED" } },
    ]);
    // Found before anything is sent, it is left to the host, which runs the request again.
    await expect(worker.ask(serv, { tenant: "ada", query: "{ whoami }", guard })).rejects.toMatchObject({
      code: "SCHEMA_CHANGED",
    });
  });

  it("that is cancelled ends its statement and leaves a usable connection", async () => {
    const scope = worker.scope({ tenant: "ada" });
    const query = "{ __typename ... @defer { sleep(seconds: 60) } }";
    const { answer, sent } = await serv.serve(
      worker.task({ tenant: "ada", query, headers: { accept } }, scope),
      scope,
    );
    if (answer.kind !== "stream") throw new Error("not a stream");
    const reader = receiveBody(answer.port).getReader();
    await reader.read();
    const asleep = (): Promise<object[]> =>
      database.query(
        "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
      );
    await expect.poll(asleep, { timeout: 20_000 }).toHaveLength(1);
    scope.cancel();
    await sent;
    await expect.poll(asleep, { timeout: 20_000 }).toHaveLength(0);
    const { json } = await worker.ask(serv, { tenant: "ada", query: "{ whoami }" });
    expect(json.data).toEqual({ whoami: "ada ada, public, pg_temp" });
  });
});
