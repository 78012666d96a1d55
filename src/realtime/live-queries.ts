/** Runs the operations of subscribers, and again when their tenant has events if they are live. */
import type { Observe } from "../observability/observation.ts";
import { pause } from "../shared/kernel/duration.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { BoundedSemaphore } from "../shared/kernel/semaphore.ts";
import type { EventPoller } from "./event-poller.ts";
import { LiveQuery, type Sink, type Subscriber } from "./live-query.ts";
import type { LiveResult } from "./live-result.ts";

/** The identity under which a subscriber is served. */
export interface Identity {
  readonly tenant: TenantId;
  readonly database: string;
  /** Physical schemas whose events concern it. */
  readonly schemas: readonly string[];
  /** Equal for subscribers that have equal results: of everything that an answer may depend on. */
  readonly key: string;
}

/** A subscriber's operation, as its request would run now. */
export interface Operation {
  readonly identity: Identity;
  identify(): Promise<Identity>;
  /** Runs it once, as a request; aborts with the reason of `signal`. */
  run(signal: AbortSignal): Promise<Run>;
}

interface Run extends LiveResult {
  /** The key of the identity that this request was admitted with, which may have changed since `identify` was asked. */
  readonly servedAs: string | undefined;
}

export interface LiveQueriesOptions {
  readonly poller: (database: string) => Pick<EventPoller, "subscribe">;
  readonly minIntervalMs: number;
  readonly requestTimeoutMs: number;
  /** Executions of one tenant. */
  readonly tenantSubscriptions: number;
  readonly observe: Observe;
}

export interface Subscription {
  /** Ends it where its subscriber would no longer be served as it was. To be called from time to time. */
  check(): void;
  /** The subscriber has left. */
  end(): void;
}

/** How many operations of one tenant run at a time. What waits costs others nothing. */
const tenantRuns = 8;

const firstRetryMs = 250;
const longestRetryMs = 5_000;

/** What one tenant has. */
interface Share {
  readonly runs: BoundedSemaphore;
  /** Its live queries. */
  executions: number;
  /** These, and the subscriptions that have not had a result yet. */
  users: number;
}

/** A subscription from its first run to its end. */
class Started implements Subscription {
  live: LiveQuery | null = null;
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

export class LiveQueries {
  readonly #options: LiveQueriesOptions;
  readonly #live = new Map<string, LiveQuery>();
  readonly #shares = new Map<TenantId, Share>();
  readonly #sinks = new Map<Started, Sink>();
  #isDraining = false;

  constructor(options: LiveQueriesOptions) {
    this.#options = options;
  }

  /** How many subscriptions there are, and how many executions they share. */
  get counts(): { readonly subscriptions: number; readonly executions: number } {
    return { subscriptions: this.#sinks.size, executions: this.#live.size };
  }

  /**
   * Runs an operation for `sink`, and goes on while it is live. The first run is the subscriber's own, since a mutation may not
   * be shared. Throws `TENANT_BUSY` if the tenant has as many executions as it may.
   */
  subscribe(operation: Operation, sink: Sink): Subscription {
    const { tenant, key } = operation.identity;
    const share = this.#shares.get(tenant) ?? {
      runs: new BoundedSemaphore(
        { concurrency: tenantRuns, queue: 100_000 },
        () => new HostError("TENANT_BUSY"),
      ),
      executions: 0,
      users: 0,
    };
    if (!this.#live.has(key)) this.#assertRoom(share);
    this.#shares.set(tenant, share);
    share.users += 1;
    const started = new Started(() => void this.#sinks.delete(started));
    this.#sinks.set(started, sink);
    void this.#start(started, operation, sink, share).finally(() => this.#leaveShare(tenant, share));
    return started;
  }

  /**
   * Cuts all subscribers off, so that they subscribe elsewhere. First runs end: a client that is cut off in the middle of a
   * mutation would send it again.
   */
  drain(): void {
    this.#isDraining = true;
    for (const [started, sink] of [...this.#sinks]) {
      if (started.live === null && !started.isWaiting) continue;
      started.end();
      sink.cut();
    }
  }

  #assertRoom({ executions }: Share): void {
    if (executions >= this.#options.tenantSubscriptions) throw new HostError("TENANT_BUSY");
  }

  #leaveShare(tenant: TenantId, share: Share): void {
    share.users -= 1;
    if (share.users === 0) this.#shares.delete(tenant);
  }

  /** Resolves when the operation is over, or has joined an execution; never rejects. */
  async #start(started: Started, operation: Operation, sink: Sink, share: Share): Promise<void> {
    const { identity } = operation;
    const events = {
      missed: false,
      hear: (): void => {
        events.missed = true;
      },
    };
    let unhear = (): void => {};
    try {
      // First, so that no change after the first run goes unheard.
      const poller = this.#options.poller(identity.database);
      unhear = await this.#patiently(started, () => poller.subscribe(identity.schemas, () => events.hear()));
      if (started.ended) return;
      const result = await this.#patiently(started, () => this.#first(started, operation, sink, share));
      if (started.ended || result === null) return;
      if (result.refused) sink.fail(result);
      else sink.next(result.body);
      if (result.refreshMs === null) {
        if (!result.refused) sink.complete();
        started.end();
        return;
      }
      // Its own result is not what others of that identity would get.
      if (this.#isDraining || result.servedAs !== identity.key) {
        started.end();
        sink.cut();
        return;
      }
      const subscriber = this.#subscriberOf(operation, share, started, { sink, last: result.digest });
      const known = this.#live.get(identity.key);
      const live = known ?? this.#create(identity, result, share, unhear);
      if (known === undefined) {
        events.hear = () => live.touch();
        unhear = () => {};
      }
      join(started, live, subscriber);
      if (events.missed) live.touch();
    } catch (thrown) {
      if (started.ended) return;
      started.end();
      const error = toHostError(thrown);
      if (this.#isDraining && isHarmless(error)) sink.cut();
      else sink.fail(error);
    } finally {
      unhear();
    }
  }

  /** `work`, repeated for as long as a request may take while it fails with nothing done, as a database that restarts makes it. */
  async #patiently<Value>(started: Started, work: () => Promise<Value>): Promise<Value> {
    const untilMs = performance.now() + this.#options.requestTimeoutMs;
    for (let pauseMs = firstRetryMs; ; pauseMs = Math.min(2 * pauseMs, longestRetryMs)) {
      try {
        return await work();
      } catch (thrown) {
        const isLast = performance.now() + pauseMs > untilMs;
        if (started.ended || this.#isDraining || isLast || !isHarmless(toHostError(thrown))) throw thrown;
        started.isWaiting = true;
        await pause(pauseMs, started.stop.signal);
        started.isWaiting = false;
      }
    }
  }

  /**
   * The first result. Null if an equal operation has turned out to be live while this one waited for its turn: it has joined that
   * one, and gets the result of a run that is all such subscribers'. After a deploy they come by the thousand.
   */
  #first(started: Started, operation: Operation, sink: Sink, share: Share): Promise<Run | null> {
    const waits = share.runs.state.running >= tenantRuns;
    return share.runs.run(async () => {
      const live = waits && !started.ended ? this.#live.get(operation.identity.key) : undefined;
      if (live === undefined) return this.#run(operation, started.stop.signal);
      join(started, live, this.#subscriberOf(operation, share, started, { sink, last: "" }));
      return null;
    });
  }

  #create(
    identity: Identity,
    { digest, refreshMs }: LiveResult,
    share: Share,
    unhear: () => void,
  ): LiveQuery {
    const { minIntervalMs, requestTimeoutMs } = this.#options;
    this.#assertRoom(share);
    share.executions += 1;
    share.users += 1;
    const live = new LiveQuery(digest, {
      minIntervalMs,
      patienceMs: requestTimeoutMs,
      refreshMs: refreshMs ?? 0,
      onEnd: () => {
        this.#live.delete(identity.key);
        share.executions -= 1;
        this.#leaveShare(identity.tenant, share);
        unhear();
      },
    });
    this.#live.set(identity.key, live);
    return live;
  }

  #subscriberOf(
    operation: Operation,
    share: Share,
    started: Started,
    { sink, last }: { readonly sink: Sink; readonly last: string },
  ): Subscriber {
    const { key } = operation.identity;
    const over = (tell: () => void): void => {
      started.end();
      tell();
    };
    return {
      last,
      run: async (signal) => {
        const result = await share.runs.run(() => this.#run(operation, signal));
        return result.servedAs === key ? result : null;
      },
      isCurrent: async () => (await operation.identify()).key === key,
      sink: {
        next: (body) => sink.next(body),
        fail: (error) => over(() => sink.fail(error)),
        complete: () => over(() => sink.complete()),
        cut: (reason) => over(() => sink.cut(reason)),
      },
    };
  }

  /** One run, within the deadline of a request. */
  async #run(operation: Operation, stop: AbortSignal): Promise<Run> {
    stop.throwIfAborted();
    const deadline = new AbortController();
    const expire = (): void => deadline.abort(new HostError("DEADLINE"));
    const timer = setTimeout(expire, this.#options.requestTimeoutMs);
    try {
      const result = await operation.run(AbortSignal.any([stop, deadline.signal]));
      this.#options.observe({ kind: "realtime.run", tenant: operation.identity.tenant });
      return result;
    } finally {
      clearTimeout(timer);
    }
  }
}

function join(started: Started, live: LiveQuery, subscriber: Subscriber): void {
  started.live = live;
  started.subscriber = subscriber;
  live.join(subscriber);
}

/** Whether a retry may mend it and nothing of the operation can stand. A mutation may have been committed before its thread ended. */
const isHarmless = ({ retryable, code }: HostError): boolean => retryable && code !== "CELL_LOST";
