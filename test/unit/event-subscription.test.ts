/** The results of a `Subscription` operation: all for everyone, in order, or its client is cut off. */
import { expect, it } from "vitest";
import { EventSubscription } from "../../src/realtime/event-subscription.ts";
import type { Subscriber } from "../../src/realtime/execution.ts";
import type { LiveResult } from "../../src/realtime/live-result.ts";
import type { FeedReport, TopicEvent } from "../../src/shared/protocol/events.ts";

const event = (payload: string): TopicEvent => ["one", "news", payload];
const numbered = (count: number): TopicEvent[] => Array.from({ length: count }, (_, n) => event(String(n)));

/** Answers each event with its payload. */
const answered = (events: readonly TopicEvent[], report: Partial<FeedReport> = {}): LiveResult => ({
  body: events.map(([, , payload]) => payload).join("\n"),
  digest: "",
  refused: false,
  refreshMs: null,
  feed: { topics: ["news"], handled: events.length, ...report },
});

interface Made {
  readonly execution: EventSubscription;
  /** Bytes held, and what cuts the execution off. */
  readonly held: { bytes: number; cut: () => void };
  ended: boolean;
}

function made(most = 1_000_000): Made {
  const held = { bytes: 0, cut: (): void => {} };
  const made: Made = {
    held,
    ended: false,
    execution: new EventSubscription({
      topics: ["news"],
      patienceMs: 1_000,
      onEnd: () => {
        made.ended = true;
      },
      holding: {
        add: (bytes, cut) => {
          Object.assign(held, { bytes: held.bytes + bytes, cut });
          return held.bytes <= most;
        },
        leave: () => {
          held.bytes = 0;
        },
      },
    }),
  };
  return made;
}

/** A subscriber that reads at once, or never. */
function subscriber(
  told: string[],
  run: (events: readonly TopicEvent[]) => LiveResult = answered,
  reads = true,
): Subscriber {
  return {
    last: "",
    run: async (_, events) => run(events),
    isCurrent: async () => true,
    sink: {
      next: (body) => void told.push(body),
      push: (body) => {
        told.push(body);
        return reads ? Promise.resolve() : new Promise(() => {});
      },
      goesOn: () => {},
      fail: () => void told.push("failed"),
      complete: () => void told.push("complete"),
      cut: (reason) => void told.push(`cut ${String(reason)}`),
    },
  };
}

it("nobody waits for a subscriber that has not read the results before", async () => {
  const { execution } = made();
  const [quick, slow]: [string[], string[]] = [[], []];
  const oneByOne = ([first]: readonly TopicEvent[]): LiveResult =>
    answered(first === undefined ? [] : [first]);
  execution.join(subscriber(quick, oneByOne));
  execution.join(subscriber(slow, oneByOne, false));
  await execution.begin(Promise.resolve(numbered(60)));
  expect(quick).toEqual(numbered(60).map(([, , payload]) => payload));
  expect(slow).toEqual(quick);
});

it.each([
  ["listens to another topic by now", { topics: ["other"] }],
  ["listens to one more by now", { topics: ["news", "other"] }],
  ["was not given the event", { handled: 0 }],
])("a subscription that %s is cut off", async (_, report) => {
  const told: string[] = [];
  const { execution } = made();
  execution.join(subscriber(told, (events) => answered(events, report)));
  await execution.begin(Promise.resolve([event("first"), event("second")]));
  expect(told.at(-1)).toBe("cut EVENTS_LOST");
});

it("what waits is counted until it has been sent, and cut off where there is no room", async () => {
  const told: string[] = [];
  const { execution, held } = made(2_000);
  execution.join(subscriber(told));
  const missed = Promise.withResolvers<readonly TopicEvent[]>();
  const begun = execution.begin(missed.promise);
  execution.hear([event("x".repeat(1_500))]);
  expect(held.bytes).toBe(1_500);
  missed.resolve([]);
  await begun;
  expect(told).toEqual(["x".repeat(1_500)]);
  expect(held.bytes).toBe(0);
  execution.hear([event("x".repeat(2_001))]);
  expect(told.at(-1)).toBe("cut EVENTS_LOST");
  expect(held.bytes).toBe(0);
});

it("what waits is given up where others need the memory", async () => {
  const told: string[] = [];
  const its = made();
  its.execution.join(subscriber(told));
  its.execution.hear([event("waits")]);
  its.held.cut();
  expect(told).toEqual(["cut EVENTS_LOST"]);
  expect([its.ended, its.held.bytes]).toEqual([true, 0]);
});
