import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Pipeline } from "../../src/shared/postgres/pipeline.ts";
import { receiveBody } from "../../src/shared/protocol/body-stream.ts";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Ask, presetUrl, until, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
let worker: Worker;
let serv: CellServ;
beforeAll(async () => {
  database = await createDatabase("serve");
  await database.execute(workerTenantSql("ada"));
  await database.execute(
    "insert into ada.person (name) select 'more ' || n from generate_series(1, 3000) n; create extension if not exists pg_trgm",
  );
  worker = new Worker(database);
  serv = await worker.build("pooled", { app: "ada" });
});
afterAll(() => database.drop());

function fanOut(levels: number): string {
  const spread = (level: number): string =>
    `fragment f${level} on Query { a: query { ...f${level + 1} } b: query { ...f${level + 1} } }`;
  return `{ ...f0 } ${Array.from({ length: levels }, (_, level) => spread(level)).join(" ")} fragment f${levels} on Query { whoami }`;
}

const ask = (more: Partial<Ask>, on = serv, by = worker) =>
  by.ask(on, { tenant: "ada", query: "{ whoami }", ...more });

describe("an answer", () => {
  it.each([
    ["application/json", "application/json;charset=utf-8"],
    ["application/graphql-response+json", "application/graphql-response+json;charset=utf-8"],
    ["*/*", "application/graphql-response+json;charset=utf-8"],
  ])("for Accept %s is %s", async (accept, type) => {
    const { status, headers, json } = await ask({ headers: { accept } });
    expect([status, headers["content-type"]?.replace("; ", ";"), json]).toEqual([
      200,
      type,
      { data: { whoami: "ada ada, public, pg_temp" } },
    ]);
  });

  it.each<[string, Partial<Ask>, number, string]>([
    ["a body that is not JSON", { body: "{" }, 400, "BAD_REQUEST"],
    ["an empty body", { body: "" }, 400, "BAD_REQUEST"],
    ["a body without a query", { body: "{}" }, 400, "BAD_REQUEST"],
    ["variables that are not an object", { body: '{"query":"{whoami}","variables":1}' }, 400, "BAD_REQUEST"],
    ["a form", { headers: { "content-type": "multipart/form-data" } }, 415, "MEDIA_TYPE"],
    ["Accept: text/xml", { headers: { accept: "text/xml" } }, 406, "BAD_REQUEST"],
    // 2 ** 40 fields: walking them would never end.
    ["fragments that fan out", { query: fanOut(40) }, 400, "OPERATION_TOO_COMPLEX"],
    ["DELETE", { method: "DELETE" }, 405, "METHOD_NOT_ALLOWED"],
    [
      "GET, which the preset does not allow",
      { method: "GET", search: "query={whoami}" },
      405,
      "METHOD_NOT_ALLOWED",
    ],
  ])("to %s is a refusal with a code", async (_, more, status, code) => {
    const refused = await ask(more).catch((error) => error);
    if (refused instanceof Error) expect(refused).toMatchObject({ status, code });
    else expect([refused.status, refused.json.errors[0].extensions.code]).toEqual([status, code]);
  });

  it("to an unsupported method names a supported one", async () => {
    expect(await ask({ method: "GET", search: "query={whoami}" })).toMatchObject({
      status: 405,
      headers: { allow: "POST" },
    });
  });

  it("to an operation that does not parse or validate is GraphQL's own error, with locations", async () => {
    for (const query of ["{", "{ nonsense }"]) {
      for (const [accept, status] of [
        ["application/json", 200],
        ["application/graphql-response+json", 400],
      ] as const) {
        const { json, ...rest } = await ask({ query, headers: { accept } });
        expect([rest.status, json.errors[0].locations.length, json.errors[0].extensions?.code]).toEqual([
          status,
          1,
          undefined,
        ]);
      }
    }
  });

  it("to an unknown path is NOT_FOUND", async () => {
    await expect(ask({ path: "/elsewhere" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(ask({ path: "/", method: "GET" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("that is long arrives complete", async () => {
    const { json } = await ask({ query: "{ big(bytes: 300000) }" });
    expect(json.data.big).toHaveLength(300_000);
  });

  it("to a mutation takes one round trip for its statement and its commit", async () => {
    const bursts = vi.spyOn(Pipeline.prototype, "handleReadyForQuery");
    const query = 'mutation { createPerson(input: { person: { name: "one burst" } }) { person { name } } }';
    const { json } = await ask({ query });
    expect(json).toEqual({ data: { createPerson: { person: { name: "one burst" } } } });
    expect(bursts).toHaveBeenCalledTimes(1);
    bursts.mockRestore();
  });

  it("to GET is given if the preset allows it, except for mutations", async () => {
    const open = new Worker(database, {
      preset: presetUrl(`
      import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
      export default { extends: [PostGraphileAmberPreset], grafserv: { graphqlOverGET: true } };`),
    });
    const on = await open.build("pooled", { app: "ada" });
    const get = (query: string) =>
      ask({ method: "GET", body: null, search: new URLSearchParams({ query }).toString() }, on, open);
    expect(await get("{ whoami }")).toMatchObject({
      status: 200,
      json: { data: { whoami: expect.any(String) } },
    });
    const refused = await get('mutation { renameAll(input: { suffix: "!" }) { clientMutationId } }');
    expect(refused.status).toBe(405);
    expect(refused.ledger).toBe(0);
  });
});

describe("an error", () => {
  const failing = "{ divide(by: 0) }";
  const big = "{ big(bytes: 2000000) }";

  it("has PostgreSQL's message and code in development, and only an id for the log in production", async () => {
    expect((await ask({ query: failing })).json.errors[0]).toMatchObject({
      message: "division by zero",
      path: ["divide"],
      extensions: { code: "22012" },
    });
    const production = new Worker(database, { production: true, resultBytes: 1_000_000 });
    const on = await production.build("pooled", { app: "ada" });
    const { json } = await ask({ query: failing }, on, production);
    const [error] = json.errors;
    expect(error.message).toBe(`An error occurred (logged with id ${error.extensions.errorId})`);
    expect(JSON.stringify(json)).not.toMatch(/division|22012/);
    expect(production.log.join()).toMatch(new RegExp(`${error.extensions.errorId}.*division by zero`));

    const cut = await ask({ query: big }, on, production);
    expect(cut.json.errors[0].extensions.code).toBe("RESULT_TOO_LARGE");
    expect((await ask({}, on, production)).json.errors).toBeUndefined();
  });

  it("of a lost database fails the request as DATABASE_UNREACHABLE", async () => {
    const reading = ask({ query: "{ sleep(seconds: 600) }" });
    const ended: number[] = [];
    const failing = expect(reading).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
    // Each once it has run for a second, so that it is sent once more, and not again.
    for (let n = 0; n < 2; n += 1) {
      const pid = await until(async () => {
        const rows = await database.query<{ pid: number }>(
          "select pid from pg_stat_activity where query like '%sleep%' and datname = current_database() and pid <> pg_backend_pid() and clock_timestamp() - query_start > '1.1 s'",
        );
        return rows.find((row) => !ended.includes(row.pid))?.pid;
      });
      ended.push(pid);
      await database.query("select pg_terminate_backend($1)", [pid]);
    }
    await failing;
    expect((await ask({})).json.errors).toBeUndefined();
  });
});

describe("a streamed answer", () => {
  const preset = presetUrl(`
    import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
    async function* body(last) {
      globalThis.streaming = (globalThis.streaming ?? 0) + 1;
      try {
        for (let n = 0; n < last; n += 1) yield Buffer.alloc(1000, "x");
        if (last === 3) throw new Error("broken off");
      } finally { globalThis.streaming -= 1; }
    }
    export default { extends: [PostGraphileAmberPreset], plugins: [{ name: "Streams", grafserv: { middleware: {
      processRequest(next, { requestDigest: { path } }) {
        const last = Number(/^.stream.(.*)/.exec(path)?.[1]);
        const odd = { "Content-Type": "text/plain", "Content-Length": "3", "Transfer-Encoding": "chunked", VARY: "accept" };
        if (path === "/capitals") return { type: "buffer", statusCode: 200, headers: odd, buffer: Buffer.from("whole") };
        if (!(last > 0)) return next();
        return { type: "bufferStream", statusCode: 200, headers: { "content-type": "text/plain" }, bufferIterator: body(last) };
      } } } }] };`);
  const streaming = () => Reflect.get(globalThis, "streaming");
  let on: CellServ;
  let by: Worker;
  beforeAll(async () => {
    by = new Worker(database, { preset });
    on = await by.build("pooled", { app: "ada" });
  });

  it("arrives complete", async () => {
    const { text, headers } = await ask({ path: "/stream/2000" }, on, by);
    expect([text.length, headers]).toEqual([2_000_000, { "content-type": "text/plain" }]);
    expect(streaming()).toBe(0);
  });

  it("or any other carries a plugin's headers in lower case, except those about its transfer", async () => {
    const { text, headers } = await ask({ path: "/capitals" }, on, by);
    expect([text, headers]).toEqual(["whole", { "content-type": "text/plain", vary: "accept" }]);
  });

  it("that fails in the middle is never taken for complete", async () => {
    await expect(ask({ path: "/stream/3" }, on, by)).rejects.toMatchObject({ code: "INTERNAL" });
  });

  it.each([
    ["by its reader", (_: unknown, reader: ReadableStreamDefaultReader) => reader.cancel()],
    ["by the host", (scope: { cancel(): void }) => scope.cancel()],
  ])("that is cancelled %s ends its source", async (_, giveUp) => {
    const scope = by.scope({ tenant: "ada" });
    const { answer, sent } = await on.serve(
      by.task({ tenant: "ada", path: "/stream/1000000" }, scope),
      scope,
    );
    if (answer.kind !== "stream") throw new Error("not a stream");
    const reader = receiveBody(answer.port).getReader();
    await reader.read();
    expect(streaming()).toBe(1);
    await giveUp(scope, reader);
    await sent;
    await until(() => streaming() === 0);
  });
});
