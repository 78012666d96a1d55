/** One subscription, from its first run to its end. */
import { HostError } from "../shared/kernel/errors.ts";
import type { Span } from "./event-table.ts";
import type { Execution, Subscriber } from "./execution.ts";

export interface Subscription {
  /** Ends it where its subscriber would no longer be served as it was. To be called from time to time. */
  check(): void;
  /** The subscriber has left. */
  end(): void;
}

/** A subscription from its first run to its end. */
export class Started implements Subscription {
  live: Execution | null = null;
  subscriber: Subscriber | null = null;
  /** Whether it waits to be begun again, after a failure of which nothing stands. */
  isWaiting = false;
  readonly stop = new AbortController();
  readonly #onEnd: () => void;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  get ended(): boolean {
    return this.stop.signal.aborted;
  }

  check(): void {
    if (this.live !== null && this.subscriber !== null) void this.live.check(this.subscriber);
  }

  end(): void {
    if (this.ended) return;
    this.stop.abort(new HostError("CANCELLED"));
    if (this.subscriber !== null) this.live?.leave(this.subscriber);
    this.#onEnd();
  }
}

/** What a subscription hears from before its first run on, until its execution hears for it. */
export class Hearing {
  /** All that was told so far, as one span. */
  missed: Span | null = null;
  /** Ends it. */
  end: () => void = () => {};
  #hear = (span: Span): void => {
    const { missed } = this;
    this.missed = missed === null ? span : { ...missed, until: span.until, lost: missed.lost || span.lost };
  };

  hear(span: Span): void {
    this.#hear(span);
  }

  /** From now on `hear` is told; returns the function that ends it, which `end` does no more. */
  handOver(hear: (span: Span) => void): () => void {
    const { end } = this;
    this.#hear = hear;
    this.end = () => {};
    return end;
  }
}
