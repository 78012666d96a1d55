/** One execution of a live query, for all subscribers whose requests are equal. */
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
  /** Ends the connection, so that the client subscribes anew. */
  cut(): void;
}

/** A subscriber of a live query. */
export interface Subscriber {
  readonly sink: Sink;
  /** Sends the operation as a request of this subscriber. Null if it was served under another identity than the subscriber's. */
  run(signal: AbortSignal): Promise<LiveResult | null>;
  /** Whether its identity is unchanged: false if tenant, role, claims or record differ; rejects if it would be refused. */
  isCurrent(): Promise<boolean>;
  /** The body that it was last sent. */
  last: string;
}

export interface LiveQueryOptions {
  readonly minIntervalMs: number;
  /** How long failures that a retry may mend are tolerated. */
  readonly patienceMs: number;
  readonly refreshMs: number;
  /** Called once, when there are no subscribers any more. */
  readonly onEnd: () => void;
}

const firstRetryMs = 250;
const longestRetryMs = 5_000;

export class LiveQuery {
  readonly #options: LiveQueryOptions;
  readonly #subscribers = new Set<Subscriber>();
  readonly #stop = new AbortController();
  readonly #refresh: NodeJS.Timeout | undefined;
  #running = false;
  #isOutdated = false;
  #lastBody: string;
  #startedMs = performance.now();

  /** `body` is the result that its first subscriber has already. */
  constructor(body: string, options: LiveQueryOptions) {
    this.#lastBody = body;
    this.#options = options;
    const { refreshMs } = options;
    if (refreshMs > 0) this.#refresh = setInterval(() => this.touch(), refreshMs);
  }

  /** Adds a subscriber that was sent `subscriber.last` already. */
  join(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber);
    // Nobody knows which of the two results is the newer one.
    if (subscriber.last !== this.#lastBody) this.touch();
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
      await pause(this.#startedMs + this.#options.minIntervalMs - performance.now(), signal);
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
    if (!error.retryable && !(await this.check(runner))) return;
    const nowMs = performance.now();
    failing.sinceMs = Math.min(failing.sinceMs, nowMs);
    if (!error.retryable || nowMs - failing.sinceMs > this.#options.patienceMs) {
      for (const each of this.#subscribers) this.#end(each, (sink) => sink.fail(error));
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
    this.#lastBody = result.body;
    for (const each of [...this.#subscribers]) {
      if (each.last === result.body) continue;
      if (!(await this.check(each))) continue;
      each.last = result.body;
      each.sink.next(result.body);
    }
  }

  /** Whether a subscriber may have results; ends it if not. */
  async check(subscriber: Subscriber): Promise<boolean> {
    try {
      const isCurrent = await subscriber.isCurrent();
      if (!this.#subscribers.has(subscriber)) return false;
      if (!isCurrent) this.#end(subscriber, (sink) => sink.cut());
      return isCurrent;
    } catch (thrown) {
      const error = toHostError(thrown);
      // With a retry it may get a result; without one it must not.
      if (this.#subscribers.has(subscriber)) {
        this.#end(subscriber, (sink) => (error.retryable ? sink.cut() : sink.fail(error)));
      }
      return false;
    }
  }

  #end(subscriber: Subscriber, tell: (sink: Sink) => void): void {
    this.leave(subscriber);
    tell(subscriber.sink);
  }
}
