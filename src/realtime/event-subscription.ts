/** One execution of a `Subscription` operation. It runs for each batch of its events; between runs nothing of it is in a cell. */
import { pause } from "../shared/kernel/duration.ts";
import { toHostError } from "../shared/kernel/errors.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";
import { Execution, type ExecutionOptions } from "./execution.ts";
import type { LiveResult } from "./live-result.ts";

/** Twice what one transaction may write; beyond that the subscribers are cut off rather than told a part. */
export const mostWaiting = 2_000;
const mostWaitingCharacters = 16 * 1024 * 1024;
/** One run answers with all of its results at once. */
const mostInBatch = 100;
const mostCharactersInBatch = 256 * 1024;
/** How long the next batch waits for those who have not read the results of the last one. */
const slowestMs = 1_000;

export class EventSubscription extends Execution {
  readonly #topics: ReadonlySet<string>;
  #waiting: TopicEvent[] = [];
  #characters = 0;
  #batch = mostInBatch;
  #running = true;

  /** `topics` are those that its first run listened to. */
  constructor(topics: readonly string[], options: ExecutionOptions) {
    super(options);
    this.#topics = new Set(topics);
  }

  /** Whether a run that listened to these topics hears what this one does. */
  listensTo(topics: readonly string[]): boolean {
    return topics.length === this.#topics.size && topics.every((topic) => this.#topics.has(topic));
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
    if (this.#waiting.length > mostWaiting || this.#characters > mostWaitingCharacters) this.lose();
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
        // It listens to something else by now, or to nothing: what it heard in between is unknown.
        if (
          !result.refused &&
          (result.feed === null || !result.feed.topics.every((each) => this.#topics.has(each)))
        )
          this.lose();
        this.#handled(result.feed?.handled ?? batch.length);
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
    // At least one, or the same run would follow for ever.
    for (const [, , payload] of this.#waiting.splice(0, Math.max(1, count)))
      this.#characters -= payload.length;
  }

  /** Sends all results to each subscriber that would still be served as when it subscribed. */
  async #deliver(result: LiveResult): Promise<void> {
    if (result.refused) {
      this.endAll((sink) => sink.fail(result));
      return;
    }
    const results = resultsOf(result);
    if (results.length === 0) return;
    const sending: Promise<void>[] = [];
    await this.deliver((each) => {
      for (const body of results) sending.push(each.sink.push(body));
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
