/** An operation that runs for all subscribers whose requests are equal, as the request of one of them. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { pause } from "../shared/kernel/duration.ts";
import { type HostError, toHostError } from "../shared/kernel/errors.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";
import type { LiveResult } from "./live-result.ts";
import { firstRetryMs, nextRetryMs } from "./patience.ts";

/** Where results go. None of these may throw. */
export interface Sink {
  /** A result that takes the place of those before it. */
  next(body: string): void;
  /** A result that is sent whatever follows it; resolves once it has been, or the client is gone. */
  push(body: string): Promise<void>;
  /** Its first run is over, and it is no mutation: more results may follow, perhaps much later. */
  goesOn(): void;
  /** Final: the operation failed, and to repeat it is of no use. */
  fail(error: HostError | LiveResult): void;
  /** Final: there are no more results. */
  complete(): void;
  /** Ends the connection, so that the client subscribes anew; an error as the reason may pass. */
  cut(reason?: HostError | "EVENTS_LOST"): void;
}

/** A subscriber of an execution. */
export interface Subscriber {
  readonly sink: Sink;
  /**
   * Sends the operation as a request of this subscriber, with the events that it is to be given. Null if it was served under
   * another identity than the subscriber's.
   */
  run(signal: AbortSignal, events: readonly TopicEvent[]): Promise<LiveResult | null>;
  /** Whether its identity is unchanged: false if tenant, role, claims or record differ; rejects if it would be refused. */
  isCurrent(): Promise<boolean>;
  /** The digest of the result that it was last sent; empty if there was none. */
  last: string;
}

export interface ExecutionOptions {
  /** How long failures that a retry may mend are tolerated, before the clients are to try elsewhere. */
  readonly patienceMs: number;
  /** Called once, when there are no subscribers any more. */
  readonly onEnd: () => void;
}

/** Thousands of deliveries take the front longer than other tenants' requests are to wait. */
const longestTurnMs = 5;

export class Execution {
  protected readonly subscribers = new Set<Subscriber>();
  protected readonly stop = new AbortController();
  readonly #options: ExecutionOptions;
  #failingSinceMs = Number.POSITIVE_INFINITY;
  #retryMs = firstRetryMs;

  constructor(options: ExecutionOptions) {
    this.#options = options;
  }

  join(subscriber: Subscriber): void {
    this.subscribers.add(subscriber);
  }

  leave(subscriber: Subscriber): void {
    this.subscribers.delete(subscriber);
    if (this.subscribers.size > 0 || this.stop.signal.aborted) return;
    this.stop.abort();
    this.#options.onEnd();
  }

  /** Ends a subscriber that would not be served any more as it was. Whether it would may be unknown for a while. */
  async check(subscriber: Subscriber): Promise<void> {
    await this.#mayHave(subscriber, (error) => !error.retryable);
  }

  /** Calls `send` for each subscriber that may have a result, those first that came first. */
  protected async deliver(
    send: (subscriber: Subscriber) => void,
    whom = (_: Subscriber) => true,
  ): Promise<void> {
    let sinceMs = performance.now();
    for (const each of [...this.subscribers]) {
      if (!whom(each)) continue;
      if (performance.now() - sinceMs > longestTurnMs) {
        await nextTurn();
        sinceMs = performance.now();
      }
      if (await this.#mayHave(each)) send(each);
    }
  }

  /** Whether a subscriber may have a result; ends it if not, but for errors that `isFinal` is false for. */
  async #mayHave(
    subscriber: Subscriber,
    isFinal: (error: HostError) => boolean = () => true,
  ): Promise<boolean> {
    try {
      const isCurrent = await subscriber.isCurrent();
      if (!this.subscribers.has(subscriber)) return false;
      if (!isCurrent) this.end(subscriber, (sink) => sink.cut());
      return isCurrent;
    } catch (thrown) {
      const error = toHostError(thrown);
      // With a retry it may get a result; without one it must not.
      if (this.subscribers.has(subscriber) && isFinal(error)) {
        this.end(subscriber, (sink) => (error.retryable ? sink.cut(error) : sink.fail(error)));
      }
      return false;
    }
  }

  /** The result of a run as `runner`; null if it is not for the others, and then the runner has been ended. */
  protected async resultOf(runner: Subscriber, events: readonly TopicEvent[]): Promise<LiveResult | null> {
    const result = await runner.run(this.stop.signal, events);
    // It may hold rows that are not for the others.
    if (result === null) this.end(runner, (sink) => sink.cut());
    return result;
  }

  protected end(subscriber: Subscriber, tell: (sink: Sink) => void): void {
    // It may have left while a run of its own was under way.
    if (!this.subscribers.has(subscriber)) return;
    this.leave(subscriber);
    tell(subscriber.sink);
  }

  protected endAll(tell: (sink: Sink) => void): void {
    for (const each of this.subscribers) this.end(each, tell);
  }

  protected succeeded(): void {
    this.#failingSinceMs = Number.POSITIVE_INFINITY;
    this.#retryMs = firstRetryMs;
  }

  /** Ends whom a retry does not help; resolves when it is time for the next one. */
  protected async failed(error: HostError, runner: Subscriber): Promise<void> {
    if (this.stop.signal.aborted) return;
    // The runner's own token or route; another one's may be good.
    if (error.status === 401 || error.status === 404) {
      this.end(runner, (sink) => sink.fail(error));
      return;
    }
    if (!error.retryable && !(await this.#mayHave(runner))) return;
    const nowMs = performance.now();
    this.#failingSinceMs = Math.min(this.#failingSinceMs, nowMs);
    if (!error.retryable || nowMs - this.#failingSinceMs > this.#options.patienceMs) {
      this.endAll((sink) => (error.retryable ? sink.cut(error) : sink.fail(error)));
      return;
    }
    await pause(this.#retryMs, this.stop.signal);
    this.#retryMs = nextRetryMs(this.#retryMs);
  }
}
