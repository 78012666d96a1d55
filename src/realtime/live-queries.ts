/** Runs the operations of subscribers, and again when their tenant has events if they are live. */
import type { Observe } from "../observability/observation.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { BoundedSemaphore } from "../shared/kernel/semaphore.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";
import type { EventPoller } from "./event-poller.ts";
import { EventSubscription, type Holding, mostWaiting, resultsOf } from "./event-subscription.ts";
import type { Span, Topic } from "./event-table.ts";
import type { Execution, Sink, Subscriber } from "./execution.ts";
import { LiveQuery } from "./live-query.ts";
import type { LiveResult } from "./live-result.ts";
import { isHarmless, patiently } from "./patience.ts";
import { Hearing, Started, type Subscription } from "./subscription.ts";

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
  /** A holding of the memory for what waits for subscribers; what belongs to one tenant is counted together. */
  readonly hold: (tenant: TenantId) => Holding;
}

/** How many operations of one tenant run at a time. What waits costs others nothing. */
const tenantRuns = 8;

/** What one tenant has. */
interface Share {
  readonly runs: BoundedSemaphore;
  /** What its subscriptions share. */
  executions: number;
  /** These, and the subscriptions that have not had a result yet. */
  users: number;
}

/** A subscription that has had its first result and is to join its execution. */
interface Begun {
  readonly identity: Identity;
  readonly result: LiveResult;
  readonly subscriber: Subscriber;
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
function topicsOf(listened: readonly string[], schemas: readonly string[]): readonly Topic[] {
  const topics = listened.filter(
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
    const { tenant, key } = operation.identity;
    const share = this.#shares.get(tenant) ?? {
      runs: new BoundedSemaphore(
        { concurrency: tenantRuns, queue: 100_000 },
        () => new HostError("TENANT_BUSY"),
      ),
      executions: 0,
      users: 0,
    };
    if (!this.#live.has(key) && !this.#fed.has(key)) this.#assertRoom(share);
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

  /** Counts an execution; returns the function that takes it off again. Throws `TENANT_BUSY` where it would be one too many. */
  #execute(tenant: TenantId, share: Share): () => void {
    this.#assertRoom(share);
    share.executions += 1;
    share.users += 1;
    return () => {
      share.executions -= 1;
      this.#leaveShare(tenant, share);
    };
  }

  /** Resolves when the operation is over, or has joined an execution; never rejects. */
  async #start(started: Started, operation: Operation, sink: Sink, share: Share): Promise<void> {
    const { identity } = operation;
    const hearing = new Hearing();
    try {
      // First, so that no event after the first run goes unheard.
      const poller = this.#options.poller(identity.database);
      const heard = (span: Span): void => hearing.hear(span);
      hearing.end = await this.#patiently(started, () => poller.subscribe(identity.schemas, heard));
      if (started.ended) return;
      const result = await this.#patiently(started, () => this.#first(started, operation, sink, share));
      if (started.ended || result === null) return;
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
      const subscriber = this.#subscriberOf(operation, share, started, { sink, last: result.digest });
      const begun: Begun = { identity, result, subscriber, share, hearing };
      started.subscriber = subscriber;
      started.live = follows ? this.#follow(begun) : this.#joinLive(begun);
      sink.goesOn();
    } catch (thrown) {
      if (started.ended) return;
      started.end();
      const error = toHostError(thrown);
      if (this.#isDraining && isHarmless(error)) sink.cut();
      else sink.fail(error);
    } finally {
      hearing.end();
    }
  }

  #patiently<Value>(started: Started, work: () => Promise<Value>): Promise<Value> {
    return patiently(work, {
      forMs: this.#options.requestTimeoutMs,
      isOver: () => started.ended || this.#isDraining,
      signal: started.stop.signal,
      onPause: (pauses) => {
        started.isWaiting = pauses;
      },
    });
  }

  /**
   * The first result. Null if an equal operation has turned out to be live while this one waited for its turn: it has joined that
   * one, and gets the result of a run that is all such subscribers'. After a deploy they come by the thousand.
   */
  #first(started: Started, operation: Operation, sink: Sink, share: Share): Promise<Run | null> {
    const waits = share.runs.state.running >= tenantRuns;
    return share.runs.run(async () => {
      const live = waits && !started.ended ? this.#live.get(operation.identity.key) : undefined;
      if (live === undefined) return this.#run(operation, started.stop.signal, []);
      started.live = live;
      started.subscriber = this.#subscriberOf(operation, share, started, { sink, last: "" });
      live.join(started.subscriber);
      sink.goesOn();
      return null;
    });
  }

  /** Has a subscriber join the execution of its live query. */
  #joinLive(begun: Begun): Execution {
    const { missed } = begun.hearing;
    const live = this.#live.get(begun.identity.key) ?? this.#create(begun);
    live.join(begun.subscriber);
    if (missed !== null) live.touch();
    return live;
  }

  /**
   * Has a subscriber join the execution of its `Subscription` operation, or begin one. What has missed events, or had results
   * without any, is not shared: the others have heard those, and may have other results.
   */
  #follow({ identity, result, subscriber, share, hearing }: Begun): Execution {
    const { tenant, key, database, ownSchemas } = identity;
    const listened = result.feed?.topics ?? [];
    const { missed } = hearing;
    const isOwn = missed !== null || result.body !== "";
    const known = this.#fed.get(key);
    if (known !== undefined && !isOwn && known.listensTo(listened)) {
      known.join(subscriber);
      return known;
    }
    const poller = this.#options.poller(database);
    const topics = topicsOf(listened, ownSchemas);
    const leave = this.#execute(tenant, share);
    const unfollow = poller.follow(topics, (events) => fed.hear(events));
    const unhear = hearing.handOver((span) => {
      if (span.lost) fed.lose();
    });
    const shared = known === undefined && result.body === "";
    this.#fedCount += 1;
    const fed = new EventSubscription({
      topics: listened,
      holding: this.#options.hold(tenant),
      patienceMs: this.#options.requestTimeoutMs,
      onEnd: () => {
        if (shared) this.#fed.delete(key);
        this.#fedCount -= 1;
        leave();
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

  #create({ identity, result, share, hearing }: Begun): LiveQuery {
    const { digest, refreshMs } = result;
    const { minIntervalMs, requestTimeoutMs } = this.#options;
    const leave = this.#execute(identity.tenant, share);
    const unhear = hearing.handOver(() => live.touch());
    const live = new LiveQuery(digest, {
      minIntervalMs,
      patienceMs: requestTimeoutMs,
      refreshMs: refreshMs ?? 0,
      onEnd: () => {
        this.#live.delete(identity.key);
        leave();
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
        const result = await share.runs.run(() => this.#run(operation, signal, events));
        return result.servedAs === key ? result : null;
      },
      isCurrent: async () => (await operation.identify()).key === key,
      sink: {
        next: (body) => sink.next(body),
        goesOn: () => sink.goesOn(),
        push: (body) => sink.push(body),
        fail: (error) => over(() => sink.fail(error)),
        complete: () => over(() => sink.complete()),
        cut: (reason) => over(() => sink.cut(reason)),
      },
    };
  }

  /** One run, within the deadline of a request. */
  async #run(operation: Operation, stop: AbortSignal, events: readonly TopicEvent[]): Promise<Run> {
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
  }
}
