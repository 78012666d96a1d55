/** One execution of a `Subscription` operation. It runs for each batch of its events; between runs nothing of it is in a cell. */
import { pause } from "../shared/kernel/duration.ts";
import { toHostError } from "../shared/kernel/errors.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";
import { Execution, type ExecutionOptions, type Subscriber } from "./execution.ts";
import type { LiveResult } from "./live-result.ts";

/** Twice the events that one transaction may write; beyond that the subscribers are cut off rather than told a part. */
export const mostWaiting = { events: 2_000, characters: 16 * 1024 * 1024 };
/** One run answers with all of its results at once. */
const mostInBatch = 100;
const mostCharactersInBatch = 256 * 1024;
/** How long the next batch waits for those who have not read the results of the last one. */
const slowestMs = 1_000;

/** What an execution holds of the memory for what waits. */
export interface Holding {
  /** Counts `bytes` more; false if there is no room. Calls `cut` if later others need it. */
  add(bytes: number, cut: () => void): boolean;
  leave(): void;
}

export interface EventSubscriptionOptions extends ExecutionOptions {
  /** What its first run listened to. */
  readonly topics: readonly string[];
  readonly holding: Holding;
}

export class EventSubscription extends Execution {
  readonly #holding: Holding;
  readonly #topics: ReadonlySet<string>;
  #waiting: TopicEvent[] = [];
  #characters = 0;
  #batch = mostInBatch;
  #running = true;
  /** Those who have not read what they were sent: nobody waits for them. */
  readonly #behind = new Set<Subscriber>();

  constructor({ topics, holding, ...options }: EventSubscriptionOptions) {
    super(options);
    this.#topics = new Set(topics);
    this.#holding = holding;
  }

  override leave(subscriber: Subscriber): void {
    super.leave(subscriber);
    this.#behind.delete(subscriber);
    if (this.stop.signal.aborted) this.#holding.leave();
  }

  /** Whether a run that listened to these topics hears what this one does. */
  listensTo(topics: readonly string[]): boolean {
    return topics.length === this.#topics.size && this.#hears(topics);
  }

  #hears(topics: readonly string[]): boolean {
    return topics.every((topic) => this.#topics.has(topic));
  }

  /** Begins with the events that were missed so far; null or a rejection cuts its subscribers off. Never rejects. */
  async begin(missed: Promise<readonly TopicEvent[] | null>): Promise<void> {
    const events = await missed.catch(() => null);
    if (events === null) {
      this.lose();
      return;
    }
    const heard = this.#waiting;
    this.#waiting = [];
    this.#characters = 0;
    this.#add([...events, ...heard]);
    await this.#keepRunning();
  }

  hear(events: readonly TopicEvent[]): void {
    this.#add(events);
    if (!this.#running) void this.#keepRunning();
  }

  /** Events may be missing: its subscribers subscribe anew. */
  lose(): void {
    this.#waiting = [];
    this.endAll((sink) => sink.cut("EVENTS_LOST"));
  }

  #add(events: readonly TopicEvent[]): void {
    if (this.stop.signal.aborted) return;
    for (const event of events) {
      this.#waiting.push(event);
      this.#characters += event[2].length;
    }
    const { length } = this.#waiting;
    if (length > mostWaiting.events || this.#characters > mostWaiting.characters || !this.#hold())
      this.lose();
  }

  /** Counts what waits now; false if there is no room for it. */
  #hold(): boolean {
    this.#holding.leave();
    return this.#characters === 0 || this.#holding.add(this.#characters, () => this.lose());
  }

  /** Runs until no event waits. An event leaves the queue only when its results have been sent. Never rejects. */
  async #keepRunning(): Promise<void> {
    this.#running = true;
    const { signal } = this.stop;
    while (this.#waiting.length > 0 && !signal.aborted) {
      const [runner] = this.subscribers;
      if (runner === undefined) break;
      const batch = this.#nextBatch();
      try {
        const result = await this.resultOf(runner, batch);
        if (result === null) continue;
        await this.#deliver(result);
        const { feed } = result;
        // It listens to something else by now, or to nothing, so events have been left out.
        if (feed === null || feed.handled === 0 || !this.#hears(feed.topics)) this.lose();
        else this.#handled(feed.handled);
        this.#batch = Math.min(mostInBatch, 2 * this.#batch);
        this.succeeded();
      } catch (thrown) {
        // Perhaps it is too much for one run.
        this.#batch = 1;
        const error = toHostError(thrown);
        if (batch.length > 1 && !error.retryable && error.status !== 401 && error.status !== 404) continue;
        await this.failed(error, runner);
      }
    }
    this.#running = false;
  }

  #nextBatch(): readonly TopicEvent[] {
    let characters = 0;
    const batch: TopicEvent[] = [];
    for (const event of this.#waiting) {
      characters += event[2].length;
      if (batch.length > 0 && (batch.length >= this.#batch || characters > mostCharactersInBatch)) break;
      batch.push(event);
    }
    return batch;
  }

  #handled(count: number): void {
    for (const [, , payload] of this.#waiting.splice(0, count)) this.#characters -= payload.length;
    if (!this.#hold()) this.lose();
  }

  /** Sends all results to each subscriber that would still be served as when it subscribed. */
  async #deliver(result: LiveResult): Promise<void> {
    if (result.refused) {
      this.endAll((sink) => sink.fail(result));
      return;
    }
    const results = resultsOf(result);
    if (results.length === 0) return;
    const sending: Promise<unknown>[] = [];
    await this.deliver((each) => {
      const all = Promise.all(results.map((body) => each.sink.push(body)));
      if (!this.#behind.has(each)) sending.push(all);
      this.#behind.add(each);
      void all.then(() => this.#behind.delete(each));
    });
    const waiting = new AbortController();
    await Promise.race([Promise.all(sending), pause(slowestMs, waiting.signal)]);
    waiting.abort();
  }
}

/** The results of a run, one a line. */
export function resultsOf({ body }: LiveResult): readonly string[] {
  return body === "" ? [] : body.split("\n");
}
