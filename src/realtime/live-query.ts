/** One execution of a live query: it runs again when what it depends on may have changed, and a result outdates those before it. */
import { pause } from "../shared/kernel/duration.ts";
import { toHostError } from "../shared/kernel/errors.ts";
import { Execution, type ExecutionOptions, type Subscriber } from "./execution.ts";
import type { LiveResult } from "./live-result.ts";

export interface LiveQueryOptions extends ExecutionOptions {
  readonly minIntervalMs: number;
  readonly refreshMs: number;
}

export class LiveQuery extends Execution {
  readonly #minIntervalMs: number;
  readonly #refresh: NodeJS.Timeout | undefined;
  #running = false;
  #isOutdated = false;
  #last: string;
  #startedMs = performance.now();

  /** `last` is the digest of the result that its first subscriber has already. */
  constructor(last: string, { minIntervalMs, refreshMs, ...options }: LiveQueryOptions) {
    super(options);
    this.#last = last;
    this.#minIntervalMs = minIntervalMs;
    if (refreshMs > 0) this.#refresh = setInterval(() => this.touch(), refreshMs);
  }

  /** Adds a subscriber that was sent `subscriber.last` already. */
  override join(subscriber: Subscriber): void {
    super.join(subscriber);
    // Nobody knows which of the two results is the newer one.
    if (subscriber.last !== this.#last) this.touch();
  }

  override leave(subscriber: Subscriber): void {
    super.leave(subscriber);
    if (this.stop.signal.aborted) clearInterval(this.#refresh);
  }

  /** What it depends on may have changed. */
  touch(): void {
    this.#isOutdated = true;
    if (!this.#running) void this.#keepRunning();
  }

  /** Runs until it is no longer outdated; changes during a run lead to one more. Never rejects. */
  async #keepRunning(): Promise<void> {
    this.#running = true;
    const { signal } = this.stop;
    while (this.#isOutdated && !signal.aborted) {
      await pause(this.#startedMs + this.#minIntervalMs - performance.now(), signal);
      const [runner] = this.subscribers;
      if (runner === undefined) break;
      this.#isOutdated = false;
      this.#startedMs = performance.now();
      try {
        const result = await this.resultOf(runner, []);
        if (result === null) this.#isOutdated = true;
        else await this.#deliver(result);
        this.succeeded();
      } catch (thrown) {
        this.#isOutdated = true;
        await this.failed(toHostError(thrown), runner);
      }
    }
    this.#running = false;
  }

  /** Sends a result to each subscriber that has another one and that would still be served as when it subscribed. */
  async #deliver(result: LiveResult): Promise<void> {
    if (result.refused) {
      this.endAll((sink) => sink.fail(result));
      return;
    }
    this.#last = result.digest;
    const send = (each: Subscriber): void => {
      each.last = result.digest;
      each.sink.next(result.body);
    };
    await this.deliver(send, (each) => each.last !== result.digest);
  }
}
