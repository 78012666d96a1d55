/** Runs the operations of subscribers, and again when their tenant has events if they are live. */
import type { Observe } from "../observability/observation.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { BoundedSemaphore } from "../shared/kernel/semaphore.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";
import type { EventPoller } from "./event-poller.ts";
import { EventSubscription, mostWaiting, resultsOf } from "./event-subscription.ts";
import type { Span, Topic } from "./event-table.ts";
import type { Execution, Sink, Subscriber } from "./execution.ts";
import { LiveQuery } from "./live-query.ts";
import type { LiveResult } from "./live-result.ts";

/** The identity under which a subscriber is served. */
export interface Identity {
  readonly tenant: TenantId;
  readonly database: string;
  /** Physical schemas whose events concern it. */
  readonly schemas: readonly string[];
  /** Those of them whose topics it may hear: others publish in shared schemas, too. */
  readonly ownSchemas: readonly string[];
  /** Equal for subscribers that have equal results: of everything that an answer may depend on. */
  readonly key: string;
}

/** A subscriber's operation, as its request would run now. */
export interface Operation {
  readonly identity: Identity;
  identify(): Promise<Identity>;
  /** Runs it once, as a request, with these events; aborts with the reason of `signal`. */
  run(signal: AbortSignal, events: readonly TopicEvent[]): Promise<Run>;
}

interface Run extends LiveResult {
  /** The key of the identity that this request was admitted with, which may have changed since `identify` was asked. */
  readonly servedAs: string | undefined;
}

export interface LiveQueriesOptions {
  readonly poller: (database: string) => Pick<EventPoller, "subscribe" | "follow" | "read">;
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

/** What one tenant has. */
interface Share {
  readonly runs: BoundedSemaphore;
  executions: number;
}

/** A subscription from its first run to its end. */
class Started implements Subscription {
  live: Execution | null = null;
  subscriber: Subscriber | null = null;
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
class Hearing {
  /** All that was told so far, as one span. */
  missed: Span | null = null;
  /** Ends it. */
  end: () => void = () => {};
  #hear = (span: Span): void => {
    const { missed } = this;
    this.missed =
      missed === null ? span : { since: missed.since, until: span.until, lost: missed.lost || span.lost };
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

/** What a subscription has when it joins its execution. */
interface Began {
  readonly share: Share;
  readonly hearing: Hearing;
}

/** The results of a first run. */
function send(result: LiveResult, sink: Sink): void {
  if (result.refused) sink.fail(result);
  else if (result.feed === null) sink.next(result.body);
  else for (const body of resultsOf(result)) void sink.push(body);
}

/** What no event can have is left out: PostgreSQL would refuse to look for it. */
function topicsOf({ feed }: LiveResult, schemas: readonly string[]): readonly Topic[] {
  const topics = (feed?.topics ?? []).filter(
    (topic) => topic.isWellFormed() && !topic.includes("\0") && Buffer.byteLength(topic) <= 255,
  );
  return schemas.flatMap((schema) => topics.map((topic) => ({ schema, topic })));
}

export class LiveQueries {
  readonly #options: LiveQueriesOptions;
  readonly #live = new Map<string, LiveQuery>();
  /** Executions of `Subscription` operations, those that others may join by their keys. */
  readonly #fed = new Map<string, EventSubscription>();
  #fedCount = 0;
  readonly #shares = new Map<TenantId, Share>();
  readonly #sinks = new Map<Started, Sink>();
  #isDraining = false;

  constructor(options: LiveQueriesOptions) {
    this.#options = options;
  }

  /** How many subscriptions there are, and how many executions they share. */
  get counts(): { readonly subscriptions: number; readonly executions: number } {
    return { subscriptions: this.#sinks.size, executions: this.#live.size + this.#fedCount };
  }

  /**
   * Runs an operation for `sink`, and goes on while it is live. The first run is the subscriber's own, since a mutation may not
   * be shared. Throws `TENANT_BUSY` if the tenant has as many executions as it may.
   */
  subscribe(operation: Operation, sink: Sink): Subscription {
    const { tenant } = operation.identity;
    const share = this.#shares.get(tenant) ?? {
      runs: new BoundedSemaphore(
        { concurrency: tenantRuns, queue: 100_000 },
        () => new HostError("TENANT_BUSY"),
      ),
      executions: 0,
    };
    if (share.executions >= this.#options.tenantSubscriptions) throw new HostError("TENANT_BUSY");
    this.#shares.set(tenant, share);
    share.executions += 1;
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
      if (started.live === null) continue;
      started.end();
      sink.cut();
    }
  }

  #leaveShare(tenant: TenantId, share: Share): void {
    share.executions -= 1;
    if (share.executions === 0) this.#shares.delete(tenant);
  }

  /** Resolves when the operation is over, or has joined an execution; never rejects. */
  async #start(started: Started, operation: Operation, sink: Sink, share: Share): Promise<void> {
    const { identity } = operation;
    const hearing = new Hearing();
    try {
      // First, so that no event after the first run goes unheard.
      hearing.end = await this.#options
        .poller(identity.database)
        .subscribe(identity.schemas, (span) => hearing.hear(span));
      if (started.ended) return;
      const result = await this.#run(operation, share, started.stop.signal, []);
      if (started.ended) return;
      const follows = (result.feed?.topics.length ?? 0) > 0;
      send(result, sink);
      if (result.refreshMs === null && !follows) {
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
      const subscriber = this.#subscriberOf(operation, share, started, { sink, last: result.body });
      started.subscriber = subscriber;
      if (follows) started.live = this.#follow(identity, result, subscriber, { share, hearing });
      else started.live = this.#joinLive(identity, result, subscriber, { share, hearing });
    } catch (thrown) {
      if (started.ended) return;
      started.end();
      sink.fail(toHostError(thrown));
    } finally {
      hearing.end();
    }
  }

  /** Has a subscriber join the execution of its live query. */
  #joinLive(
    identity: Identity,
    result: LiveResult,
    subscriber: Subscriber,
    { share, hearing }: Began,
  ): Execution {
    const { missed } = hearing;
    const live = this.#live.get(identity.key) ?? this.#create(identity, result, share, hearing);
    live.join(subscriber);
    if (missed !== null) live.touch();
    return live;
  }

  /**
   * Has a subscriber join the execution of its `Subscription` operation, or begin one. What has missed events, or had results
   * without any, is not shared: the others have heard those, and may have other results.
   */
  #follow(
    identity: Identity,
    result: LiveResult,
    subscriber: Subscriber,
    { share, hearing }: Began,
  ): Execution {
    const { key, database, ownSchemas } = identity;
    const { missed } = hearing;
    const isOwn = missed !== null || result.body !== "";
    const known = this.#fed.get(key);
    if (known !== undefined && !isOwn) {
      known.join(subscriber);
      return known;
    }
    const poller = this.#options.poller(database);
    const topics = topicsOf(result, ownSchemas);
    const unfollow = poller.follow(topics, (events) => fed.hear(events));
    const unhear = hearing.handOver((span) => {
      if (span.lost) fed.lose();
    });
    const shared = known === undefined && result.body === "";
    share.executions += 1;
    this.#fedCount += 1;
    const fed = new EventSubscription({
      patienceMs: this.#options.requestTimeoutMs,
      onEnd: () => {
        if (shared) this.#fed.delete(key);
        this.#fedCount -= 1;
        this.#leaveShare(identity.tenant, share);
        unfollow();
        unhear();
      },
    });
    if (shared) this.#fed.set(key, fed);
    fed.join(subscriber);
    const reading =
      missed === null
        ? Promise.resolve([])
        : missed.lost
          ? Promise.resolve(null)
          : poller.read(missed, topics, mostWaiting);
    void fed.begin(reading);
    return fed;
  }

  #create(identity: Identity, { body, refreshMs }: LiveResult, share: Share, hearing: Hearing): LiveQuery {
    const { minIntervalMs, requestTimeoutMs } = this.#options;
    share.executions += 1;
    const unhear = hearing.handOver(() => live.touch());
    const live = new LiveQuery(body, {
      minIntervalMs,
      patienceMs: requestTimeoutMs,
      refreshMs: refreshMs ?? 0,
      onEnd: () => {
        this.#live.delete(identity.key);
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
      run: async (signal, events) => {
        const result = await this.#run(operation, share, signal, events);
        return result.servedAs === key ? result : null;
      },
      isCurrent: async () => (await operation.identify()).key === key,
      sink: {
        next: (body) => sink.next(body),
        push: (body) => sink.push(body),
        fail: (error) => over(() => sink.fail(error)),
        complete: () => over(() => sink.complete()),
        cut: (reason) => over(() => sink.cut(reason)),
      },
    };
  }

  /** One run in the tenant's turn, within the deadline of a request. */
  #run(
    operation: Operation,
    { runs }: Share,
    stop: AbortSignal,
    events: readonly TopicEvent[],
  ): Promise<Run> {
    return runs.run(async () => {
      stop.throwIfAborted();
      const deadline = new AbortController();
      const expire = (): void => deadline.abort(new HostError("DEADLINE"));
      const timer = setTimeout(expire, this.#options.requestTimeoutMs);
      try {
        const result = await operation.run(AbortSignal.any([stop, deadline.signal]), events);
        this.#options.observe({ kind: "realtime.run", tenant: operation.identity.tenant });
        return result;
      } finally {
        clearTimeout(timer);
      }
    });
  }
}
