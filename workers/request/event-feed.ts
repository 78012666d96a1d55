/** The `pgSubscriber` of one run of a `Subscription` operation: it has the events that the run is for, and no others. */
import { SafeError } from "postgraphile/grafast";
import type { CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { eventsHeader, type FeedReport, type TopicEvent } from "../../src/shared/protocol/events.ts";

const maxTopics = 100;
/** From that many characters on, the rest is left for the next run. */
const enough = 1024 * 1024;

/** The part of PostGraphile's subscriber that plans use. */
export interface Subscriber {
  subscribe(topic: unknown): AsyncIterableIterator<string>;
}

export class EventFeed {
  readonly #events: readonly TopicEvent[];
  readonly #topics = new Set<string>();
  /** Events from here on are left for the next run. */
  #end: number;
  /** The first event that nobody has been given. */
  #next = 0;
  #isFull = false;
  #beginning: Promise<void> | null = null;
  isSubscription = false;
  /** Called when all results are out that the operation has without an event of the feed. */
  onBegin = (): void => {};
  readonly subscriber: Subscriber = { subscribe: (topic) => this.#subscribe(topic) };

  /** The feed of the events in the headers, which are not for presets. */
  static takenFrom(headers: Record<string, string>): EventFeed {
    const events = headers[eventsHeader] ?? "[]";
    delete headers[eventsHeader];
    return new EventFeed(JSON.parse(events));
  }

  constructor(events: readonly TopicEvent[]) {
    this.#events = events;
    this.#end = events.length;
  }

  /** Whether there is nothing to be given: the first run. */
  get isFirst(): boolean {
    return this.#events.length === 0;
  }

  /** What the answer tells the host. */
  get report(): FeedReport {
    return { topics: [...this.#topics], handled: this.#end };
  }

  /** Ends the run before the next event; of those that were given, all are answered. */
  fill(): void {
    this.#isFull = true;
  }

  #subscribe(topic: unknown): AsyncIterableIterator<string> {
    if (typeof topic !== "string") throw new SafeError("The topic of a subscription is not a text.");
    this.#topics.add(topic);
    if (this.#topics.size > maxTopics) {
      throw new SafeError(`A subscription may listen to ${maxTopics} topics.`);
    }
    return this.#payloads(topic);
  }

  async *#payloads(topic: string): AsyncGenerator<string, undefined> {
    for (const [at, [, name, payload]] of this.#events.entries()) {
      if (name !== topic) continue;
      // Of another topic of the operation a later event may have been given.
      if (this.#isFull) this.#end = Math.min(this.#end, Math.max(at, this.#next));
      if (at >= this.#end) return;
      this.#next = Math.max(this.#next, at + 1);
      await this.#begin();
      yield payload;
    }
  }

  #begin(): Promise<void> {
    this.#beginning ??= new Promise((resolve) => {
      setImmediate(() => {
        this.onBegin();
        resolve();
      });
    });
    return this.#beginning;
  }
}

/**
 * The results of a subscription, one a line, from the parts of the multipart answer that grafserv would send. Rejects with
 * `CANCELLED` as soon as nobody waits for them.
 */
export async function resultsIn(
  parts: AsyncIterableIterator<Uint8Array>,
  stop: CancellationToken,
  feed: EventFeed,
): Promise<string> {
  const results: string[] = [];
  let characters = 0;
  let initial: number | null = null;
  feed.onBegin = () => {
    initial = results.length;
  };
  const giveUp = (): void => void parts.return?.().catch(() => undefined);
  stop.addEventListener("abort", giveUp, { once: true });
  try {
    for await (const part of parts) {
      const text = new TextDecoder().decode(part);
      const head = text.indexOf("\r\n\r\n");
      // The last part is only a boundary.
      if (head === -1) continue;
      const result = text.slice(head + 4);
      results.push(result);
      characters += result.length;
      if (characters > enough) feed.fill();
    }
  } finally {
    stop.removeEventListener("abort", giveUp);
  }
  if (stop.aborted) throw new HostError("CANCELLED");
  // An event of the operation's own, such as `initialEvent`, comes with every run.
  return results.slice(feed.isFirst ? 0 : (initial ?? results.length)).join("\n");
}
