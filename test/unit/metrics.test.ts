import { describe, expect, it } from "vitest";
import { Dropped } from "../../src/observability/dropped.ts";
import { createMetrics } from "../../src/observability/metrics.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { composeStatus, type FleetSnapshot } from "../../src/observability/status.ts";
import { cellId, dedicatedKey, pooledKey, tenantId } from "../../src/shared/kernel/ids.ts";

const sha = "a".repeat(64);
const key = pooledKey(sha);
const acme = tenantId("acme");
const cell = cellId(1);

const fleet: FleetSnapshot = {
  cells: [
    {
      id: cell,
      phase: "serving",
      heapUsedMb: 64.26,
      heapBudgetMb: 256,
      hardLimitMb: 512,
      inFlight: 2,
      queued: 1,
      instances: [
        { key, kind: "pooled", tenants: 50, requests: 9, lastUsedMs: 12.6, heapMb: 10.74, quarantined: null },
        {
          key: dedicatedKey(acme, sha),
          kind: "dedicated",
          tenants: 1,
          requests: 1,
          lastUsedMs: 0,
          heapMb: 31,
          quarantined: acme,
        },
      ],
    },
    {
      id: cellId(2),
      phase: "draining",
      heapUsedMb: 1,
      heapBudgetMb: 256,
      hardLimitMb: 512,
      inFlight: 1,
      queued: 0,
      instances: [],
    },
  ],
  builds: { queued: 3, running: 1 },
  evictions: 7,
  connections: { total: 8, idle: 5, waiting: 2, reserve: 1 },
  readOnly: { main: false, other: true },
};

/** The samples of the exposition, by name with labels. */
async function scrape(metrics: ReturnType<typeof createMetrics>): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

describe("the metrics", () => {
  it("count every request, however many come between two scrapes", async () => {
    const metrics = createMetrics(() => null);
    const observe = (count: number, status: number, durationMs: number): void => {
      for (let nth = 0; nth < count; nth += 1) {
        metrics.observe({ kind: "request.done", status, durationMs, requestId: "r" });
      }
    };
    observe(1_201, 200, 2);
    observe(2, 404, 20);
    const first = await scrape(metrics);
    expect(first.get('rowhouse_requests_total{status="200"}')).toBe(1_201);
    expect(first.get('rowhouse_requests_total{status="404"}')).toBe(2);
    expect(first.get("rowhouse_request_seconds_count")).toBe(1_203);
    expect(first.get('rowhouse_request_seconds_bucket{le="0.0025"}')).toBe(1_201);
    observe(1, 200, 2);
    expect((await scrape(metrics)).get('rowhouse_requests_total{status="200"}')).toBe(1_202);
  });

  it("have the names and labels that the contract promises", async () => {
    const metrics = createMetrics(() => fleet);
    metrics.observe({ kind: "request.done", status: 200, durationMs: 3, requestId: "r" });
    metrics.observe({ kind: "connections.renewed", counts: { tenants: 0, age: 1, memory: 0 } });
    const samples = await scrape(metrics);
    for (const name of [
      'rowhouse_requests_total{status="200"}',
      'rowhouse_request_seconds_bucket{le="0.005"}',
      'rowhouse_cells{phase="serving"}',
      'rowhouse_cell_heap_bytes{cell="c1"}',
      'rowhouse_cell_terminations_total{reason="over-budget"}',
      'rowhouse_instances{kind="pooled"}',
      'rowhouse_builds_total{result="ok"}',
      "rowhouse_build_seconds_count",
      "rowhouse_build_queue",
      'rowhouse_evictions_total{reason="capacity"}',
      'rowhouse_decisions_total{kind="dedicated"}',
      "rowhouse_schema_reads_total",
      "rowhouse_notice_reads_total",
      "rowhouse_guard_checks_total",
      "rowhouse_guard_failures_total",
      "rowhouse_guard_retries_total",
      "rowhouse_guard_exhausted_total",
      'rowhouse_pg_renewals_total{reason="age"}',
      'rowhouse_pg_pool_connections{state="idle"}',
      'rowhouse_http_connections{state="receiving"}',
      'rowhouse_http_refused_total{reason="full"}',
      "process_resident_memory_bytes",
    ]) {
      expect([...samples.keys()]).toContain(name);
    }
    expect(metrics.contentType).toContain("text/plain; version=0.0.4");
  });

  it("report the public listener's connections, those it turned away, and those through proxies", async () => {
    const metrics = createMetrics(
      () => null,
      () => [],
      () => ({ connections: { idle: 1, receiving: 2, working: 3 }, refused: { address: 4, full: 5 } }),
    );
    metrics.observe({
      kind: "request.done",
      status: 429,
      code: "ADDRESS_BUSY",
      durationMs: 3,
      requestId: "r",
    });
    // Twice: a total that is read must not grow by being read.
    await scrape(metrics);
    const samples = await scrape(metrics);
    const of = (name: string) =>
      [...samples].filter(([key]) => key.startsWith(name)).map(([, value]) => value);
    expect(of("rowhouse_http_connections")).toEqual([1, 2, 3]);
    expect(of("rowhouse_http_refused_total")).toEqual([5, 5]);
  });

  const events: [string, Observation, string][] = [
    [
      "a request",
      { kind: "request.done", status: 503, durationMs: 3, requestId: "r" },
      'rowhouse_requests_total{status="503"}',
    ],
    [
      "a request's time",
      { kind: "request.done", status: 200, durationMs: 2000, requestId: "r" },
      'rowhouse_request_seconds_bucket{le="2.5"}',
    ],
    [
      "a termination",
      { kind: "cell.terminated", cell, reason: "stalled", heapUsedMb: 1, inFlight: 0, instances: 0 },
      'rowhouse_cell_terminations_total{reason="stalled"}',
    ],
    [
      "a build",
      { kind: "build.done", key, cell, buildMs: 400, types: 1 },
      'rowhouse_builds_total{result="ok"}',
    ],
    [
      "a build's time",
      { kind: "build.done", key, cell, buildMs: 400, types: 1 },
      'rowhouse_build_seconds_bucket{le="0.5"}',
    ],
    [
      "a build that failed",
      { kind: "build.failed", key, code: "BUILD_FAILED", error: new Error(), buildMs: 1 },
      'rowhouse_builds_total{result="failed"}',
    ],
    [
      "a build that took too long",
      { kind: "build.failed", key, code: "BUILD_TIMEOUT", error: new Error(), buildMs: 1 },
      'rowhouse_builds_total{result="timeout"}',
    ],
    [
      "an eviction",
      { kind: "instance.evicted", key, cell, reason: "idle", heapMb: 1 },
      'rowhouse_evictions_total{reason="idle"}',
    ],
    [
      "a decision",
      { kind: "tenant.decided", tenant: acme, key, pooled: true, probeMs: 1 },
      'rowhouse_decisions_total{kind="pooled"}',
    ],
    ["a schema read", { kind: "schema.read", tenant: acme, what: "shape" }, "rowhouse_schema_reads_total"],
    [
      "a look into notices",
      { kind: "notices.read", database: "main", schemas: 2 },
      "rowhouse_notice_reads_total",
    ],
  ];
  it.each(events)("count %s once", async (_what, observation, name) => {
    const metrics = createMetrics(() => null);
    expect((await scrape(metrics)).get(name) ?? 0).toBe(0);
    metrics.observe(observation);
    expect((await scrape(metrics)).get(name)).toBe(1);
  });

  it("read the fleet at each scrape, and forget cells that are gone", async () => {
    let current: FleetSnapshot | null = fleet;
    const metrics = createMetrics(() => current);
    const before = await scrape(metrics);
    expect(before.get('rowhouse_cells{phase="serving"}')).toBe(1);
    expect(before.get('rowhouse_cells{phase="draining"}')).toBe(1);
    expect(before.get('rowhouse_cells{phase="spare"}')).toBe(0);
    expect(before.get('rowhouse_cell_heap_bytes{cell="c1"}')).toBeCloseTo(64.26 * 1024 * 1024);
    expect(before.get('rowhouse_instances{kind="dedicated"}')).toBe(1);
    expect(before.get("rowhouse_build_queue")).toBe(3);
    expect(before.get('rowhouse_pg_pool_connections{state="active"}')).toBe(3);
    expect(before.get('rowhouse_pg_pool_connections{state="waiting"}')).toBe(2);
    expect(before.get("rowhouse_pg_pool_reserve_connections")).toBe(1);
    current = null;
    const after = await scrape(metrics);
    expect(after.has('rowhouse_cell_heap_bytes{cell="c1"}')).toBe(false);
    expect(after.get('rowhouse_cells{phase="serving"}')).toBe(0);
    expect(after.get('rowhouse_instances{kind="dedicated"}')).toBe(0);
  });

  it("count dropped log lines, from the start at 0", async () => {
    const dropped = new Dropped();
    const metrics = createMetrics(
      () => null,
      () => dropped.all,
    );
    const name = 'rowhouse_log_dropped_total{level="warn",reason="rate"}';
    expect((await scrape(metrics)).get(name)).toBe(0);
    dropped.add("warn", "rate", 3);
    expect((await scrape(metrics)).get(name)).toBe(3);
    expect((await scrape(metrics)).get('rowhouse_log_dropped_total{level="error",reason="full"}')).toBe(0);
  });

  it("of two hosts in one process do not mix", async () => {
    const [one, other] = [createMetrics(() => null), createMetrics(() => null)];
    one.observe({ kind: "schema.read", tenant: acme, what: "shape" });
    expect((await scrape(other)).get("rowhouse_schema_reads_total")).toBe(0);
  });
});

describe("the status", () => {
  it("is composed of its parts, with figures short enough to read", () => {
    const memory = { rssMb: 123.456, limitMb: 512, planMb: 400 };
    const status = composeStatus({
      version: "1",
      uptimeMs: 5.4,
      memory,
      fleet,
      tenants: { known: 2, decided: 1 },
      http: { idle: 1, receiving: 2, working: 3 },
    });
    expect(status).toMatchObject({
      version: "1",
      uptimeMs: 5,
      memory: { rssMb: 123.5, limitMb: 512, planMb: 400 },
      cells: [
        { id: "c1", heapUsedMb: 64.3, instances: [{ heapMb: 10.7, lastUsedMs: 13, tenants: 50 }, {}] },
        { id: "c2" },
      ],
      builds: { queued: 3, running: 1 },
      evictions: 7,
      tenants: { known: 2, decided: 1 },
      http: { idle: 1, receiving: 2, working: 3 },
    });
    expect(status).not.toHaveProperty("connections");
  });
});
