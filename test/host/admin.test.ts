import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

const token = "a-token-of-the-tests-own";

let database: TenantDatabase;
let tenants: TenantRecord[];
let host: TestHost;
let guarded: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("admin");
  tenants = [
    await database.tenant("acme"),
    await database.tenant("globex"),
    await database.tenant("hooli", "create table more (id integer)"),
  ];
  const databases = { main: { url: database.hostUrl, install: false } };
  host = await TestHost.start({
    config: { databases, tenants, pooling: true },
    connected: database.connected,
  });
  guarded = await TestHost.start({
    config: { databases, tenants, admin: { port: 0, token } },
    connected: database.connected,
  });
  for (const { id } of tenants) expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

const routes = [
  ["GET", "/metrics"],
  ["GET", "/status"],
  ["GET", "/tenants/acme"],
  ["POST", "/evict"],
  ["POST", "/flush"],
] as const;

describe("the admin listener", () => {
  it.each(routes)("answers %s %s only with the token, if one is configured", async (method, path) => {
    const ask = (headers: Record<string, string>) =>
      guarded.admin(path, {
        method,
        headers: { "content-type": "application/json", ...headers },
        ...(method === "POST" ? { body: path === "/evict" ? '{"tenant":"acme"}' : "{}" } : {}),
      });
    expect(await ask({ authorization: `Bearer ${token}` })).toMatchObject({ status: 200 });
    // Ten failures in all: the eleventh within a minute would be ignored.
    for (const authorization of ["", `Bearer ${token}x`]) {
      const answer = await ask(authorization === "" ? {} : { authorization });
      expect(answer).toMatchObject({ status: 401, headers: { "www-authenticate": expect.any(String) } });
      expect(JSON.parse(answer.text).errors[0].extensions.code).toBe("UNAUTHORIZED");
    }
  });

  it.each(routes)(
    "without a token answers %s %s only to requests for a local host name",
    async (method, path) => {
      const headers = { "content-type": "application/json", host: "rebound.example" };
      const answer = await host.admin(path, {
        method,
        headers,
        ...(method === "POST" ? { body: "{}" } : {}),
      });
      expect(answer.status).toBe(401);
    },
  );

  it("answers health and readiness probes for any Host header", async () => {
    for (const each of [host, guarded]) {
      for (const path of ["/healthz", "/readyz"]) {
        expect(await each.admin(path, { headers: { host: "probe.example" } })).toMatchObject({
          status: 200,
          text: "ok",
        });
      }
    }
  });

  it.each([
    ["GET", "/evict", undefined, 405],
    ["POST", "/status", "{}", 405],
    ["GET", "/nothing", undefined, 404],
    ["GET", "/tenants/nobody", undefined, 404],
    ["POST", "/evict", "{", 400],
    ["POST", "/evict", "{}", 400],
    ["POST", "/evict", '{"tenant":"acme","cell":"c1"}', 400],
    ["POST", "/evict", '{"tenant":"nobody"}', 404],
    ["POST", "/evict", '{"key":"bp:none"}', 404],
    ["POST", "/evict", '{"cell":"c999"}', 404],
    ["POST", "/flush", '{"all":true}', 400],
  ] as const)("answers %s %s %s with %i in JSON", async (method, path, body, status) => {
    const answer = await host.admin(path, {
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body }),
    });
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.text).errors[0]).toMatchObject({
      message: expect.any(String),
      extensions: { code: expect.any(String) },
    });
  });

  it("refuses an HTML form as a command", async () => {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    expect(await host.admin("/flush", { method: "POST", headers, body: "a=b" })).toMatchObject({
      status: 415,
    });
  });
});

describe("GET /status", () => {
  it("has the promised shape, and nothing else", async () => {
    const number = expect.any(Number);
    const instance = {
      kind: "pooled",
      requests: number,
      lastUsedMs: number,
      heapMb: number,
      quarantined: null,
    };
    const status = await host.adminJson("/status");
    expect(status).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      uptimeMs: number,
      memory: { rssMb: number, limitMb: 700, planMb: number },
      cells: expect.any(Array),
      builds: { queued: 0, running: 0 },
      evictions: number,
      tenants: { known: 3, decided: 3 },
      http: { idle: number, receiving: number, working: number },
    });
    for (const cell of status.cells) {
      expect(cell).toEqual({
        id: expect.stringMatching(/^c\d+$/),
        // The spare that the last build used is replaced by another after a while.
        phase: expect.stringMatching(/^(starting|serving|spare)$/),
        heapUsedMb: number,
        heapBudgetMb: 192,
        hardLimitMb: 384,
        inFlight: 0,
        queued: 0,
        instances: expect.any(Array),
      });
    }
    const { key: common } = await host.adminJson("/tenants/acme");
    const { key: other } = await host.adminJson("/tenants/hooli");
    const instances = status.cells.flatMap((cell: { instances: object[] }) => cell.instances);
    expect(instances).toHaveLength(2);
    expect(instances).toContainEqual({ ...instance, key: common, tenants: 2 });
    expect(instances).toContainEqual({ ...instance, key: other, tenants: 1 });
    expect(status.memory.planMb).toBeLessThanOrEqual(700);
  });
});

describe("GET /tenants/:id", () => {
  it("reports key, shape, revisions and schemas of a pooled tenant", async () => {
    expect(await host.adminJson("/tenants/acme")).toEqual({
      id: "acme",
      key: expect.stringMatching(/^bp:[0-9a-f]{64}$/),
      kind: "pooled",
      shape: expect.stringMatching(/^[0-9a-f]{64}$/),
      core: expect.stringMatching(/^[0-9a-f]{64}$/),
      sharesBy: expect.stringMatching(/^the core shape: no preset is configured/),
      revisions: { canary_acme: expect.stringMatching(/^\d+$/), public: expect.stringMatching(/^\d+$/) },
      schemas: { app: "canary_acme" },
      changes: expect.objectContaining({ by: "events", everyMs: 10_000 }),
    });
  });
});

describe("GET /metrics", () => {
  it("has every promised series", async () => {
    const names = [
      'requests_total{status="200"}',
      "request_seconds_count",
      ...["starting", "spare", "serving", "condemned", "draining"].map((phase) => `cells{phase="${phase}"}`),
      ...["over-budget", "stalled", "evicted"].map((reason) => `cell_terminations_total{reason="${reason}"}`),
      'instances{kind="pooled"}',
      'instances{kind="dedicated"}',
      ...["ok", "failed", "timeout"].map((result) => `builds_total{result="${result}"}`),
      "build_seconds_count",
      "build_queue",
      'evictions_total{reason="requested"}',
      'decisions_total{kind="pooled"}',
      "schema_reads_total",
      "guard_checks_total",
      "guard_failures_total",
      "guard_retries_total",
      "guard_exhausted_total",
      'pg_pool_connections{state="idle"}',
    ].map((name) => `rowhouse_${name}`);
    const metrics = await host.metrics();
    expect([...metrics.keys()]).toEqual(expect.arrayContaining(names));
    const { cells } = await host.adminJson("/status");
    for (const { id } of cells)
      expect(metrics.get(`rowhouse_cell_heap_bytes{cell="${id}"}`)).toBeGreaterThan(1e7);
    expect(
      metrics.get("process_resident_memory_bytes") ?? metrics.get("rowhouse_process_resident_memory_bytes"),
    ).toBeGreaterThan(1e7);
    expect(metrics.get('rowhouse_requests_total{status="200"}')).toBeGreaterThanOrEqual(3);
    expect(metrics.get('rowhouse_builds_total{result="ok"}')).toBe(2);
  });
});

describe("POST /evict and /flush", () => {
  it("report what they evicted, and later requests build it again", async () => {
    const { key } = await host.adminJson("/tenants/acme");
    expect(await host.adminJson("/evict", { tenant: "globex" })).toEqual({ evicted: [key] });
    expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
    expect(await host.adminJson("/evict", { key })).toEqual({ evicted: [key] });
    expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
    const { cells } = await host.adminJson("/status");
    const home = cells.find((cell: { instances: { key: string }[] }) =>
      cell.instances.some((each) => each.key === key),
    );
    const { evicted } = await host.adminJson("/evict", { cell: home.id });
    expect(evicted).toContain(key);

    expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
    const flushed = await host.adminJson("/flush", {});
    expect(flushed.evicted).toContain(key);
    expect(flushed.decisions).toBeGreaterThan(0);
    const reads = await host.metric("schema_reads_total");
    expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
    expect(await host.metric("schema_reads_total")).toBeGreaterThan(reads);
    expect(await host.metric('evictions_total{reason="flushed"}')).toBeGreaterThan(0);
  });
});

describe("GET /readyz", () => {
  it("is 503 while the host drains, and the request in flight completes", async () => {
    const asked = guarded.graphql("acme", "{ slow(seconds: 2) }");
    await database.asleep();
    guarded.process.signal("SIGTERM");
    await guarded.process.line("host.phase", { phase: "draining" });
    expect(await guarded.admin("/readyz")).toMatchObject({ status: 503 });
    expect(await guarded.admin("/healthz")).toMatchObject({ status: 200 });
    await expect(guarded.send("/graphql", { headers: { connection: "close" } })).rejects.toThrow(
      /ECONNREFUSED/,
    );
    expect(await asked).toMatchObject({ status: 200, data: { slow: "canary_acme one" } });
    await guarded.ended();
  });
});
