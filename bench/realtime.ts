/** What subscribers cost: their memory, deliveries, writes to watched tables, and everybody's requests. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, inTurn } from "./bench.ts";
import type { BenchDatabase, BenchTenant } from "./database.ts";
import { operationBars } from "./operation-bars.ts";
import { operations } from "./operations.ts";
import { measureWrites, writeArms } from "./realtime-writes.ts";
import { figureOf, measuredOf, median, Rounds } from "./report.ts";
import { measureLoad } from "./server.ts";
import {
  heldBy,
  liveQuery,
  ownQuery,
  Subscribers,
  startWatching,
  type Transport,
  watchedDatabase,
} from "./subscribers.ts";

/** The default of `realtime.poll`. */
const pollMs = 100;
/** More than the default of `realtime.minInterval`, so that no change waits for the one before it. */
const apartMs = 300;
const transports = ["websocket", "sse"] as const satisfies readonly Transport[];

interface Run {
  readonly database: BenchDatabase;
  readonly first: BenchTenant;
  readonly rounds: Rounds;
  readonly quick: boolean;
}

/** Subscribers of one tenant with one query, or with one of their own each: what they hold while nothing happens, and what a change costs. */
async function measureSubscribers(run: Run, kind: Transport | "own", count: number): Promise<void> {
  const { database, first, rounds, quick } = run;
  const server = await startWatching(database, count);
  const subscribers = new Subscribers(database);
  const transport = kind === "own" ? "websocket" : kind;
  const asked = (from: number, length: number): { tenant: string; query: string }[] =>
    Array.from({ length }, (_, index) => ({
      tenant: first.id,
      query: kind === "own" ? ownQuery(from + index) : liveQuery,
    }));
  try {
    // The code, the instance and the plan are there before anything is counted.
    await subscribers.open(server, transport, asked(0, 20));
    await subscribers.change(first);
    const before = await heldBy(server);
    await subscribers.open(server, transport, asked(20, count));
    const after = await heldBy(server);
    const connections = count + 20;
    const changes = kind === "own" ? 5 : Math.max(5, 20_000 / count);
    const { micros, lastMs } = await subscribers.deliver(server, {
      tenant: first,
      connections,
      rounds: quick ? 2 : changes,
    });
    rounds.add(`${count} ${kind}`, {
      "front heap kB each": (after.frontKb - before.frontKb) / count,
      "cell heap kB each": (after.cellKb - before.cellKb) / count,
      "RSS kB each": (after.rssKb - before.rssKb) / count,
      "host CPU µs per delivery": micros,
      "ms to the last": median(lastMs),
    });
  } finally {
    subscribers.close();
    await server.stop();
  }
}

/** From the commit of a change to its result at a client, with a subscriber of each tenant and changes at random times. */
async function measureLatency({ database, rounds, quick }: Run): Promise<void> {
  const server = await startWatching(database, 100);
  const subscribers = new Subscribers(database);
  const { tenants } = database;
  try {
    await subscribers.open(
      server,
      "websocket",
      tenants.map(({ id }) => ({ tenant: id, query: liveQuery })),
    );
    const latencies: number[] = [];
    for (let change = 0; change < (quick ? 20 : 200); change += 1) {
      const tenant = tenants[change % tenants.length];
      if (tenant === undefined) continue;
      latencies.push(await subscribers.change(tenant));
      await sleep((apartMs / tenants.length) * 2 * Math.random());
    }
    latencies.sort((a, b) => a - b);
    const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? Number.NaN;
    rounds.add("commit to client", {
      "p50 ms": at(0.5),
      "p99 ms": at(0.99),
      "p50 polls": at(0.5) / pollMs,
      "p99 polls": at(0.99) / pollMs,
    });
  } finally {
    subscribers.close();
    await server.stop();
  }
}

/** `idle` has a thousand subscribers of another tenant, for whom nothing happens. */
const requestArms = ["off", "on", "idle"] as const;
const asked = { "one row": operations["one row"], mutation: operations.mutation } as const;

async function measureRequests(
  run: Run,
  arm: (typeof requestArms)[number],
  durationMs: number,
): Promise<void> {
  const { database, first, rounds, quick } = run;
  // Started alike but for realtime itself.
  const server = await startWatching(database, 1_000, arm !== "off");
  const subscribers = new Subscribers(database);
  const tenants = database.tenants.slice(1, 5).map(({ id }) => id);
  try {
    if (arm === "idle") {
      const idle = { tenant: first.id, query: liveQuery };
      await subscribers.open(
        server,
        "websocket",
        Array.from({ length: quick ? 100 : 1_000 }, () => idle),
      );
    }
    // A host that has just started compiles for thousands of requests.
    for (const query of Object.values(asked)) {
      await measureLoad({ server, database, tenants, query }, 2 * durationMs);
    }
    for (const [name, query] of Object.entries(asked)) {
      rounds.add(`${name} · ${arm}`, await measureLoad({ server, database, tenants, query }, durationMs));
    }
  } finally {
    subscribers.close();
    await server.stop();
  }
}

function ratiosOf(rounds: Rounds): Record<string, number> {
  const found = { arms: rounds.medians };
  const ratios: Record<string, number> = {};
  for (const clients of [8, 32]) {
    const of = (arm: string): number => figureOf(found, `writes, ${clients} clients · ${arm}`, "tx/s");
    for (const arm of writeArms.slice(1))
      ratios[`writes, ${clients} clients: ${arm} over plain`] = of(arm) / of("plain");
  }
  for (const name of Object.keys(asked)) {
    for (const arm of ["on", "idle"]) {
      for (const figure of ["req/s", "server CPU µs"]) {
        ratios[`${name}: ${figure}, ${arm} over off`] =
          figureOf(found, `${name} · ${arm}`, figure) / figureOf(found, `${name} · off`, figure);
      }
    }
  }
  return ratios;
}

const bench: Bench = {
  async run({ quick, tenants = 10 }) {
    const database = await watchedDatabase(tenants);
    const rounds = new Rounds();
    const [first] = database.tenants;
    if (first === undefined) throw new Error("the bench needs a tenant");
    const run: Run = { database, first, rounds, quick };
    try {
      for (const count of quick ? [100] : [1_000, 10_000]) {
        for (const transport of transports) await measureSubscribers(run, transport, count);
      }
      await measureSubscribers(run, "own", quick ? 50 : 1_000);
      await measureLatency(run);
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        for (const arm of inTurn(requestArms, round)) await measureRequests(run, arm, quick ? 500 : 2_500);
      }
    } finally {
      await database.close();
    }
    await measureWrites(rounds, quick ? 1 : 3, quick ? 500 : 2_000);
    return {
      arms: rounds.medians,
      rounds: rounds.all,
      ratios: measuredOf(ratiosOf(rounds)),
      notes: [
        "a live query of 20 rows; its subscribers share one execution, or (own) have one each",
        "heaps after collections that freed no more; 20 subscribers are there before the first figure",
        `realtime.poll ${pollMs} ms, realtime.minInterval 250 ms: with one query, each change waits for the interval after the last`,
        "writes: one row per transaction, on a server that syncs each commit; notifying sends the same by NOTIFY",
        "requests: of four tenants, and idle means subscribers of a fifth; their tables are watched in every arm",
      ],
    };
  },
  charts: (found) => [
    operationBars(found, {
      title: "Writes of one row",
      unit: "transactions per second, more is better",
      operations: [8, 32].map((clients) => `writes, ${clients} clients`),
      arms: writeArms,
      figures: ["tx/s"],
    }),
    operationBars(found, {
      title: "Requests with realtime off, on, and on with idle subscribers",
      unit: "requests per second, more is better",
      operations: Object.keys(asked),
      arms: requestArms,
      figures: ["req/s"],
    }),
  ],
};

export default bench;
