/** What subscribers with equal requests share, and what they must not. */
import { expect, it } from "vitest";
import { type Identity, LiveQueries, type Operation } from "../../src/realtime/live-queries.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { tenantId } from "../../src/shared/kernel/ids.ts";

const shared: Identity = {
  tenant: tenantId("ada"),
  database: "main",
  schemas: ["ada"],
  ownSchemas: ["ada"],
  key: "shared",
};

const listeners = new Set<() => void>();
const queries = new LiveQueries({
  poller: () => ({
    subscribe: async (_schemas, onEvents) => {
      const hear = (): void => onEvents({ since: "", sinceMs: 0, until: "", lost: false });
      listeners.add(hear);
      return () => listeners.delete(hear);
    },
    follow: () => () => {},
    read: async () => null,
  }),
  minIntervalMs: 1,
  requestTimeoutMs: 1_000,
  tenantSubscriptions: 10,
  observe: () => undefined,
  hold: () => ({ add: () => true, leave: () => {} }),
});
const events = (): void => {
  for (const hear of [...listeners]) hear();
};

/** A subscriber and what it was told; `now` says how its requests are answered. */
class Client {
  readonly told: string[] = [];
  now: () => { readonly body: string; readonly servedAs: string };

  constructor(body: string) {
    this.now = () => ({ body, servedAs: shared.key });
    const operation: Operation = {
      identity: shared,
      // Whoever asks before or after a run may be told of the old identity still, or of it again.
      identify: async () => shared,
      run: async () => ({ refused: false, refreshMs: 0, digest: this.now().body, feed: null, ...this.now() }),
    };
    queries.subscribe(operation, {
      next: (text) => void this.told.push(text),
      goesOn: () => {},
      push: async (text) => void this.told.push(text),
      fail: (error) => void this.told.push(error instanceof HostError ? error.code : "failed"),
      complete: () => void this.told.push("complete"),
      cut: () => void this.told.push("cut"),
    });
  }

  async hears(...told: readonly string[]): Promise<void> {
    await expect.poll(() => this.told).toEqual(told);
  }
}

it("what one subscriber is served under another identity goes to none of its former equals", async () => {
  const moved = new Client("old");
  await moved.hears("old");
  const staying = new Client("old");
  await staying.hears("old");
  moved.now = () => ({ body: "of another", servedAs: "another" });
  staying.now = () => ({ body: "new", servedAs: shared.key });
  events();
  await moved.hears("old", "cut");
  await staying.hears("old", "new");
  staying.now = () => ({ body: "of another", servedAs: "another" });
  events();
  await staying.hears("old", "new", "cut");
  expect(queries.counts).toEqual({ subscriptions: 0, executions: 0 });
});

it("a subscriber whose first run is under another identity gets that result, and shares nothing", async () => {
  const client = new Client("old");
  client.now = () => ({ body: "of another", servedAs: "another" });
  await client.hears("of another", "cut");
  expect(queries.counts).toEqual({ subscriptions: 0, executions: 0 });
});
