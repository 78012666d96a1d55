import { describe, expect, it } from "vitest";
import { FairQueue, type FairQueueLimits, Turn } from "../../src/fleet/cell/fair-queue.ts";
import { type TenantId, tenantId } from "../../src/shared/kernel/ids.ts";

interface Asked {
  readonly tenant: TenantId;
  readonly costMs: number;
  readonly atMs: number;
}

class FakeTurn extends Turn {
  readonly start: () => number;

  constructor(tenant: TenantId, bytes: number, start: () => number) {
    super(tenant, bytes);
    this.start = start;
  }
}

/** A thread that runs what it is given in the order in which it came, on a clock of the test's own. */
class FakeThread {
  nowMs = 0;
  readonly queue: FairQueue;
  readonly answered: { tenant: string; afterMs: number }[] = [];
  readonly #waiting = new Map<number, Asked>();
  readonly #open = new Map<string, number>();
  readonly #turns = new Map<Asked, Turn>();
  #number = 0;

  constructor(limits: FairQueueLimits = { tenantBytes: 1_000_000, bytes: 4_000_000 }) {
    this.queue = new FairQueue(limits, { now: () => this.nowMs });
  }

  ask(name: string, costMs: number, bytes = 100): Turn {
    const tenant = tenantId(name);
    const asked = { costMs, tenant, atMs: this.nowMs };
    const start = (): number => {
      this.#number += 1;
      this.#waiting.set(this.#number, asked);
      return this.#number;
    };
    const turn = new FakeTurn(tenant, bytes, start);
    this.queue.acquire(turn);
    this.#turns.set(asked, turn);
    this.#open.set(name, this.open(name) + 1);
    return turn;
  }

  /** Requests of `name` without an answer, where none was given up. */
  open(name: string): number {
    return this.#open.get(name) ?? 0;
  }

  get inThread(): number {
    return this.#waiting.size;
  }

  /** Runs the next request to its end; false where there is none. */
  step(): boolean {
    const [next] = this.#waiting;
    if (next === undefined) return false;
    const [number, entry] = next;
    this.#waiting.delete(number);
    this.nowMs += entry.costMs;
    this.#open.set(entry.tenant, this.open(entry.tenant) - 1);
    this.queue.charge(entry.tenant, entry.costMs);
    const turn = this.#turns.get(entry);
    if (turn !== undefined) this.queue.release(turn);
    this.answered.push({ tenant: entry.tenant, afterMs: this.nowMs - entry.atMs });
    this.queue.settle();
    return true;
  }

  run(): void {
    while (this.step());
  }
}

describe("a fair queue", () => {
  it("gives a light request its turn after at most one heavy one, however many wait", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 200; count += 1) thread.ask("heavy", 100);
    // By now it is known what its requests take.
    for (let count = 0; count < 5; count += 1) thread.step();
    thread.ask("light", 1);
    thread.run();
    const light = thread.answered.find(({ tenant }) => tenant === "light");
    expect(light?.afterMs).toBeLessThanOrEqual(101);
  });

  it("allows one request at a time for a tenant about which nothing is known", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 50; count += 1) thread.ask("new", 500);
    expect(thread.inThread).toBe(1);
    expect(thread.queue.waiting).toBe(49);
  });

  it("allows a tenant of quick requests sixteen at a time in the thread", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 100; count += 1) thread.ask("quick", 0.2);
    let most = 0;
    while (thread.step()) most = Math.max(most, thread.inThread);
    expect(most).toBe(16);
    expect(thread.answered).toHaveLength(100);
  });

  it("shares a thread by time, not by requests", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 400; count += 1) {
      thread.ask("slow", 20);
      thread.ask("slower", 80);
    }
    for (let count = 0; count < 200; count += 1) thread.step();
    const busy = new Map<string, number>();
    for (const { tenant, busyMs } of thread.queue.sample()) busy.set(tenant, busyMs);
    const [slow = 0, slower = 0] = [busy.get("slow"), busy.get("slower")];
    expect(slow / slower).toBeGreaterThan(0.85);
    expect(slow / slower).toBeLessThan(1.15);
  });

  it("never has two heavy requests in the thread, whoever sends them", () => {
    const thread = new FakeThread();
    const names = Array.from({ length: 8 }, (_, index) => `t${index}`);
    for (const name of names) for (let count = 0; count < 20; count += 1) thread.ask(name, 50);
    // The first of each are not known to be heavy.
    while (thread.answered.length < 40) thread.step();
    let most = 0;
    while (thread.step()) most = Math.max(most, thread.inThread);
    expect(most).toBe(1);
    expect(thread.answered).toHaveLength(160);
  });

  it("delays a heavy request while others are in the thread, for at most as long as it would take itself", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 30; count += 1) thread.ask("heavy", 100);
    for (let count = 0; count < 5; count += 1) thread.step();
    // Behind the one that is in the thread.
    thread.ask("light", 1);
    thread.step();
    expect(thread.answered.at(-1)?.tenant).toBe("heavy");
    // Light requests without end: each time one is answered there is another.
    const since = thread.nowMs;
    const heavies = (): number => thread.answered.filter(({ tenant }) => tenant === "heavy").length;
    const before = heavies();
    while (heavies() === before) {
      thread.ask("light", 1);
      thread.step();
    }
    expect(thread.nowMs - since).toBeGreaterThanOrEqual(200);
    expect(thread.nowMs - since).toBeLessThanOrEqual(210);
  });

  it("does not starve a heavy tenant behind another's shorter requests, among quick ones of others", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 12; count += 1) thread.ask("long", 60);
    while (thread.answered.length < 3) thread.step();
    const waits = (): number => thread.answered.filter(({ tenant }) => tenant === "long").length;
    const untilMs = thread.nowMs + 20_000;
    const refill = (name: string, costMs: number, most: number): void => {
      const open = thread.open(name);
      for (let count = open; count < most; count += 1) thread.ask(name, costMs);
    };
    const before = waits();
    while (thread.nowMs < untilMs && thread.step()) {
      refill("short", 25, 2);
      refill("quick", 0.5, 4);
      refill("quicker", 0.5, 4);
    }
    expect(waits() - before).toBe(9);
  });

  it("lets small requests in, whatever slow ones with large bodies hold", () => {
    const thread = new FakeThread({ tenantBytes: 1_000, bytes: 3_000 });
    thread.ask("huge", 1, 5_000);
    thread.queue.park(1);
    thread.queue.settle();
    thread.ask("large", 1, 500);
    expect(thread.queue.waiting).toBe(1);
    thread.ask("small", 1, 0);
    expect(thread.queue.waiting).toBe(1);
    expect(thread.inThread).toBe(2);
  });

  it("starts none of a tenant's heavy requests while these are held, but all others", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 10; count += 1) thread.ask("heavy", 100);
    for (let count = 0; count < 3; count += 1) thread.step();
    thread.queue.pause(tenantId("heavy"));
    thread.queue.pause(tenantId("light"));
    // The one that is in the thread ends.
    thread.step();
    for (let count = 0; count < 5; count += 1) thread.ask("light", 1);
    thread.ask("other", 100);
    thread.ask("other", 100);
    thread.run();
    expect(thread.answered.filter(({ tenant }) => tenant === "heavy")).toHaveLength(4);
    expect(thread.answered.filter(({ tenant }) => tenant === "light")).toHaveLength(5);
    expect(thread.answered.filter(({ tenant }) => tenant === "other")).toHaveLength(2);
    expect(thread.queue.waiting).toBe(6);
    thread.queue.resume(tenantId("heavy"));
    thread.run();
    expect(thread.answered.filter(({ tenant }) => tenant === "heavy")).toHaveLength(10);
  });

  it("returns the waiting requests of one tenant, and nobody else's", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 5; count += 1) {
      thread.ask("acme", 1);
      thread.ask("globex", 1);
    }
    expect(thread.queue.withdraw(tenantId("acme"))).toHaveLength(4);
    expect(thread.queue.withdraw(tenantId("acme"))).toHaveLength(0);
    expect(thread.queue.waiting).toBe(4);
    thread.run();
    expect(thread.answered.filter(({ tenant }) => tenant === "globex")).toHaveLength(5);
    expect(thread.answered.filter(({ tenant }) => tenant === "acme")).toHaveLength(1);
  });

  it("does not count requests that wait for something other than the thread", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 10; count += 1) thread.ask("sleeper", 1);
    expect(thread.inThread).toBe(1);
    thread.queue.park(1);
    thread.queue.settle();
    expect(thread.inThread).toBe(2);
    // One that came later is not parked with it.
    thread.queue.park(1);
    thread.queue.settle();
    expect(thread.inThread).toBe(2);
    thread.run();
    expect(thread.answered).toHaveLength(10);
  });

  it("never starts a request that was abandoned while it waited, and gives up no other's place for it", () => {
    const thread = new FakeThread();
    thread.ask("acme", 1);
    const given = thread.ask("acme", 1);
    const kept = thread.ask("acme", 1);
    thread.queue.release(given);
    thread.queue.release(given);
    expect(thread.queue.waiting).toBe(1);
    thread.run();
    expect(thread.answered).toHaveLength(2);
    expect([given.phase, kept.phase]).toEqual(["over", "over"]);
  });

  it("limits bodies by their share of the heap, and always lets one in", () => {
    const thread = new FakeThread({ tenantBytes: 1_000, bytes: 1_500 });
    thread.ask("big", 1, 5_000);
    thread.ask("big", 1, 5_000);
    expect(thread.inThread).toBe(1);
    // All that there may be is in the thread.
    thread.ask("small", 1, 10);
    expect(thread.inThread).toBe(1);
    thread.run();
    expect(thread.answered).toHaveLength(3);
  });

  it("returns everything that still waits when its thread is gone, once", () => {
    const thread = new FakeThread();
    for (let count = 0; count < 5; count += 1) thread.ask("acme", 1);
    expect(thread.queue.drain()).toHaveLength(4);
    expect(thread.queue.drain()).toHaveLength(0);
    thread.run();
    expect(thread.answered).toHaveLength(1);
  });

  it("reports each tenant's time since the last sample, and forgets tenants that are quiet for long", () => {
    const thread = new FakeThread();
    thread.ask("acme", 3);
    thread.ask("globex", 4);
    thread.run();
    expect(thread.queue.sample()).toEqual([
      { tenant: "acme", busyMs: 3, requests: 1 },
      { tenant: "globex", busyMs: 4, requests: 1 },
    ]);
    expect(thread.queue.sample()).toEqual([]);
  });

  it("comes out even after any order of starts, answers, parkings and cancellations", () => {
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed % below;
    };
    const thread = new FakeThread({ tenantBytes: 3_000, bytes: 8_000 });
    const turns: Turn[] = [];
    for (let count = 0; count < 5_000; count += 1) {
      const what = random(10);
      if (what < 5) turns.push(thread.ask(`t${random(12)}`, random(30), random(2_000)));
      else if (what < 8) thread.step();
      else if (what === 8) {
        thread.queue.park(random(count + 1));
        thread.queue.settle();
      } else {
        const turn = turns[random(turns.length + 1)];
        if (turn?.phase === "waiting") thread.queue.release(turn);
      }
    }
    thread.run();
    expect(thread.queue.waiting).toBe(0);
    expect(turns.filter(({ phase }) => phase !== "over")).toEqual([]);
    // Nothing is left behind that would hold anybody back.
    for (let count = 0; count < 20; count += 1) thread.ask("fresh", 0.1);
    thread.run();
    expect(thread.queue.waiting).toBe(0);
  });
});
