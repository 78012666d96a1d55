/** One execution of a live query, for all subscribers whose requests are equal. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { pause } from "../shared/kernel/duration.ts";
import { type HostError, toHostError } from "../shared/kernel/errors.ts";
import type { LiveResult } from "./live-result.ts";

/** Where results go. None of these may throw. */
export interface Sink {
  next(body: string): void;
  /** Final: the operation failed, and to repeat it is of no use. */
  fail(error: HostError | LiveResult): void;
  /** Final: there are no more results. */
  complete(): void;
  /** Ends the connection, so that the client subscribes anew; `reason` may pass. */
  cut(reason?: HostError): void;
}

/** A subscriber of a live query. */
export interface Subscriber {
  readonly sink: Sink;
  /** Sends the operation as a request of this subscriber. Null if it was served under another identity than the subscriber's. */
  run(signal: AbortSignal): Promise<LiveResult | null>;
  /** Whether its identity is unchanged: false if tenant, role, claims or record differ; rejects if it would be refused. */
  isCurrent(): Promise<boolean>;
  /** The digest of the result that it was last sent; empty if there was none. */
  last: string;
}

export interface LiveQueryOptions {
  readonly minIntervalMs: number;
  /** How long failures that a retry may mend are tolerated, before the clients are to try elsewhere. */
  readonly patienceMs: number;
  readonly refreshMs: number;
  /** Called once, when there are no subscribers any more. */
  readonly onEnd: () => void;
}

const firstRetryMs = 250;
const longestRetryMs = 5_000;
/** Thousands of deliveries take the front longer than other tenants' requests are to wait. */
const longestTurnMs = 5;

export class LiveQuery {
  readonly #options: LiveQueryOptions;
  readonly #subscribers = new Set<Subscriber>();
  readonly #stop = new AbortController();
  readonly #refresh: NodeJS.Timeout | undefined;
  #running = false;
  #isOutdated = false;
  #last: string;
  #startedMs = performance.now();

  /** `last` is the digest of the result that its first subscriber has already. */
  constructor(last: string, options: LiveQueryOptions) {
    this.#last = last;
    this.#options = options;
    const { refreshMs } = options;
    if (refreshMs > 0) this.#refresh = setInterval(() => this.touch(), refreshMs);
  }

  /** Adds a subscriber that was sent `subscriber.last` already. */
  join(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber);
    // Nobody knows which of the two results is the newer one.
    if (subscriber.last !== this.#last) this.touch();
  }

  leave(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
    if (this.#subscribers.size > 0 || this.#stop.signal.aborted) return;
    this.#stop.abort();
    clearInterval(this.#refresh);
    this.#options.onEnd();
  }

  /** What it depends on may have changed. */
  touch(): void {
    this.#isOutdated = true;
    if (!this.#running) void this.#keepRunning();
  }

  /** Runs until it is no longer outdated; changes during a run lead to one more. Never rejects. */
  async #keepRunning(): Promise<void> {
    this.#running = true;
    const { signal } = this.#stop;
    const failing = { sinceMs: Number.POSITIVE_INFINITY, pauseMs: firstRetryMs };
    while (this.#isOutdated && !signal.aborted) {
      const untilMs = this.#startedMs + this.#options.minIntervalMs;
      await pause(untilMs - performance.now(), signal);
      const [runner] = this.#subscribers;
      if (runner === undefined) break;
      this.#isOutdated = false;
      this.#startedMs = performance.now();
      try {
        const result = await runner.run(signal);
        if (result === null) {
          // It may hold rows that are not for the others.
          this.#isOutdated = true;
          this.#end(runner, (sink) => sink.cut());
          continue;
        }
        await this.#deliver(result);
        failing.sinceMs = Number.POSITIVE_INFINITY;
        failing.pauseMs = firstRetryMs;
      } catch (thrown) {
        await this.#failed(toHostError(thrown), runner, failing);
      }
    }
    this.#running = false;
  }

  async #failed(
    error: HostError,
    runner: Subscriber,
    failing: { sinceMs: number; pauseMs: number },
  ): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#isOutdated = true;
    // The runner's own token or route; another one's may be good.
    if (error.status === 401 || error.status === 404) {
      this.leave(runner);
      runner.sink.fail(error);
      return;
    }
    if (!error.retryable && !(await this.#mayHave(runner))) return;
    const nowMs = performance.now();
    failing.sinceMs = Math.min(failing.sinceMs, nowMs);
    const isTolerated = nowMs - failing.sinceMs <= this.#options.patienceMs;
    if (!error.retryable || !isTolerated) {
      const tell = (sink: Sink): void => (error.retryable ? sink.cut(error) : sink.fail(error));
      for (const each of this.#subscribers) this.#end(each, tell);
      return;
    }
    await pause(failing.pauseMs, this.#stop.signal);
    failing.pauseMs = Math.min(longestRetryMs, 2 * failing.pauseMs);
  }

  /** Sends a result to each subscriber that has another one and that would still be served as when it subscribed. */
  async #deliver(result: LiveResult): Promise<void> {
    if (result.refused) {
      for (const each of this.#subscribers) this.#end(each, (sink) => sink.fail(result));
      return;
    }
    this.#last = result.digest;
    let sinceMs = performance.now();
    for (const each of [...this.#subscribers]) {
      if (each.last === result.digest) continue;
      if (performance.now() - sinceMs > longestTurnMs) {
        await nextTurn();
        sinceMs = performance.now();
      }
      if (!(await this.#mayHave(each))) continue;
      each.last = result.digest;
      each.sink.next(result.body);
    }
  }

  /** Ends a subscriber that would not be served any more as it was. Whether it would may be unknown for a while. */
  async check(subscriber: Subscriber): Promise<void> {
    await this.#mayHave(subscriber, (error) => !error.retryable);
  }

  /** Whether a subscriber may have a result; ends it if not, but for errors that `isFinal` is false for. */
  async #mayHave(
    subscriber: Subscriber,
    isFinal: (error: HostError) => boolean = () => true,
  ): Promise<boolean> {
    try {
      const isCurrent = await subscriber.isCurrent();
      if (!this.#subscribers.has(subscriber)) return false;
      if (!isCurrent) this.#end(subscriber, (sink) => sink.cut());
      return isCurrent;
    } catch (thrown) {
      const error = toHostError(thrown);
      // With a retry it may get a result; without one it must not.
      if (this.#subscribers.has(subscriber) && isFinal(error)) {
        this.#end(subscriber, (sink) => (error.retryable ? sink.cut(error) : sink.fail(error)));
      }
      return false;
    }
  }

  #end(subscriber: Subscriber, tell: (sink: Sink) => void): void {
    this.leave(subscriber);
    tell(subscriber.sink);
  }
}
