/** Polls one database for events, for as long as there are subscriptions to its schemas. */
import type { Observe } from "../observability/observation.ts";
import { pause } from "../shared/kernel/duration.ts";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";
import {
  type EventDatabase,
  type Poll,
  poll,
  register,
  type Snapshot,
  type Span,
  type Topic,
  unregister,
} from "./event-table.ts";
import { Followers, type Reading, readAll } from "./followers.ts";
import { Sweeper } from "./sweeper.ts";

export interface EventPollerOptions {
  readonly database: EventDatabase;
  /** The name under which the host registers; no other host may have it. */
  readonly host: string;
  readonly pollMs: number;
  /** How long events are kept for a host that is away, and written for it. */
  readonly retentionMs: number;
  readonly sweepMs?: number;
  readonly observe: Observe;
}

/** Called when schemas have new events, or may have had, with the time that they are of: it must not throw. */
export type OnEvents = (span: Span) => void;

/** The pause after a failure. */
const failedMs = 1_000;

/** A transaction that lasts longer than this after the registration may have left events unwritten that listeners waited for. */
const settlingMs = 1_000;

/** A period of polling, from the first subscription to the last. */
interface Period {
  readonly stop: AbortController;
  /** Resolves when the host is registered and has the snapshot to begin with. */
  readonly begun: Promise<void>;
  readonly over: Promise<void>;
}

/** What the polls of a period know. */
interface State {
  snapshot: Snapshot;
  server: string;
  /** The first snapshot, kept until every transaction that was running in it has ended: these may not have seen the registration. */
  unsettled: Snapshot | null;
  unsettledMs: number;
  registeredMs: number;
  polledMs: number;
  /** Whether events may have been left unwritten, or been deleted, since the last poll. */
  away: boolean;
  /** What is still to be read for followers. */
  reading: Reading | null;
}

/**
 * No event is missed between two polls. It is registered before the first subscription is accepted, and events are written
 * from then on; without subscriptions it is not registered and does not poll.
 */
export class EventPoller {
  readonly #options: EventPollerOptions;
  readonly #sweeper: Sweeper;
  readonly #listeners = new Map<string, Set<OnEvents>>();
  readonly #followers: Followers;
  #period: Period | null = null;
  #polling: Promise<void> | null = null;
  /** The schemas that the last poll, or the one under way, looked for. */
  #asked: ReadonlySet<string> = new Set();
  #failing = false;
  #closed = false;

  constructor(options: EventPollerOptions) {
    this.#options = options;
    this.#followers = new Followers(options.database);
    const { sweepMs } = options;
    this.#sweeper = new Sweeper(options.database, sweepMs === undefined ? {} : { everyMs: sweepMs });
  }

  /**
   * Calls `onEvents` from now on, once a poll at most, when any of `schemas` has new events. Resolves when everything committed
   * from then on will be heard; returns the function that ends it. Rejects if the host cannot register, `DATABASE_UNREACHABLE`
   * for example, and then nothing is left of it.
   */
  async subscribe(schemas: readonly string[], onEvents: OnEvents): Promise<() => void> {
    for (const schema of schemas) {
      const listeners = this.#listeners.get(schema) ?? new Set();
      listeners.add(onEvents);
      this.#listeners.set(schema, listeners);
    }
    const end = (): void => this.#unsubscribe(schemas, onEvents);
    try {
      if (this.#closed) throw new HostError("SHUTTING_DOWN");
      if (this.#period === null || this.#period.stop.signal.aborted) this.#period = this.#begin();
      await this.#period.begun;
      // The snapshot of a poll that does not look for these schemas may be taken only later.
      if (schemas.some((schema) => !this.#asked.has(schema))) await this.#polling;
    } catch (error) {
      end();
      throw error;
    }
    return end;
  }

  /**
   * Calls `hear` with the events of these topics, in order, from the next poll on; returns the function that ends it. For a
   * listener to their schemas, which is told when events may be missing.
   */
  follow(topics: readonly Topic[], hear: (events: readonly TopicEvent[]) => void): () => void {
    return this.#followers.add(topics, hear);
  }

  /**
   * The events of these topics in a span that the listener has been told of; null if they are more than `most`, or the span is so old that
   * some may have been deleted.
   */
  async read(
    span: Span,
    topics: readonly Topic[],
    most: Parameters<typeof readAll>[3],
  ): Promise<readonly TopicEvent[] | null> {
    const { database, retentionMs } = this.#options;
    const events = await readAll(database, span, topics, most);
    return performance.now() - span.sinceMs > retentionMs ? null : events;
  }

  /** Ends without a word to the listeners. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#listeners.clear();
    this.#period?.stop.abort();
    await this.#period?.over;
  }

  #unsubscribe(schemas: readonly string[], onEvents: OnEvents): void {
    for (const schema of schemas) {
      const listeners = this.#listeners.get(schema);
      listeners?.delete(onEvents);
      if (listeners?.size === 0) this.#listeners.delete(schema);
    }
    if (this.#listeners.size === 0) this.#period?.stop.abort();
  }

  #begin(): Period {
    const stop = new AbortController();
    const before = this.#period?.over ?? Promise.resolve();
    const starting = before.then(() => this.#start());
    const begun = starting.then(() => undefined);
    const over = starting
      .then((state) => this.#keepPolling(state, stop.signal))
      .catch(() => undefined)
      .finally(() => this.#end(period));
    const period: Period = { stop, begun, over };
    return period;
  }

  async #start(): Promise<State> {
    const { database, host, retentionMs } = this.#options;
    const registeredMs = performance.now();
    await register(database, host, retentionMs);
    const polledMs = performance.now();
    const { snapshot, server } = await poll(database, null, [], null);
    this.#sweeper.reset();
    return {
      snapshot,
      server,
      unsettled: snapshot,
      unsettledMs: polledMs,
      registeredMs,
      polledMs,
      away: false,
      reading: null,
    };
  }

  /** Unregisters. The next period, if somebody has subscribed meanwhile, begins after that. */
  async #end(period: Period): Promise<void> {
    const { database, host } = this.#options;
    await unregister(database, host).catch(() => undefined);
    if (this.#period !== period) return;
    this.#period = null;
  }

  async #keepPolling(state: State, stop: AbortSignal): Promise<void> {
    const { database, observe, pollMs } = this.#options;
    while (!stop.aborted) {
      this.#polling = this.#poll(state);
      try {
        await this.#polling;
        this.#failing = false;
      } catch (error) {
        if (!this.#failing && !stop.aborted) {
          observe({ kind: "realtime.failing", database: database.name, message: messageOf(error) });
        }
        this.#failing = true;
      }
      this.#polling = null;
      await pause(this.#failing ? Math.max(pollMs, failedMs) : pollMs, stop);
    }
  }

  async #poll(state: State): Promise<void> {
    const { database, observe, retentionMs } = this.#options;
    await this.#renew(state);
    const startedMs = performance.now();
    if (startedMs - state.polledMs > retentionMs) state.away = true;
    if (state.away) state.reading = null;
    // Of a poll that could not read them all.
    await this.#followers.read(state.reading);
    state.reading = null;
    this.#asked = new Set(this.#listeners.keys());
    const polled = await poll(database, state.snapshot, [...this.#asked], state.unsettled);
    const lost = state.away ? "away" : polled.behind || polled.server !== state.server ? "server" : null;
    const events = Object.values(polled.events).reduce((sum, count) => sum + count, 0);
    observe({
      kind: "realtime.polled",
      database: database.name,
      events,
      durationMs: performance.now() - startedMs,
    });
    const span: Span = {
      since: state.snapshot,
      sinceMs: state.polledMs,
      until: polled.snapshot,
      lost: lost !== null,
    };
    state.snapshot = polled.snapshot;
    state.server = polled.server;
    state.polledMs = startedMs;
    state.away = false;
    if (lost !== null) {
      observe({ kind: "realtime.gap", database: database.name, reason: lost });
      state.unsettled = polled.snapshot;
      state.unsettledMs = startedMs;
      this.#sweeper.reset();
      this.#tell([...this.#listeners.keys()], span);
    } else {
      state.reading = this.#followers.begin(span, Object.keys(polled.events));
      const isLate = startedMs - state.unsettledMs > settlingMs;
      const changed = this.#changed(polled, state);
      this.#tell(changed.schemas, changed.all && isLate ? { ...span, lost: true } : span);
      await this.#followers.read(state.reading);
      state.reading = null;
    }
    await this.#sweeper.consider(polled.snapshot, startedMs);
  }

  /** The schemas that have changed; all, once nothing can have been left unwritten any more. */
  #changed(
    { events, settled }: Poll,
    state: State,
  ): { readonly schemas: readonly string[]; readonly all: boolean } {
    const [first = "", last = ""] = state.unsettled?.split(":") ?? [];
    if (settled) state.unsettled = null;
    // Else nothing was under way when the host registered.
    const all = settled && first !== last;
    return { schemas: all ? [...this.#listeners.keys()] : Object.keys(events), all };
  }

  /** Renews the registration in time. If it had ended, events were not written. */
  async #renew(state: State): Promise<void> {
    const { database, host, retentionMs } = this.#options;
    const nowMs = performance.now();
    if (nowMs - state.registeredMs < retentionMs / 3) return;
    if (!(await register(database, host, retentionMs))) state.away = true;
    state.registeredMs = nowMs;
  }

  #tell(schemas: readonly string[], span: Span): void {
    const told = new Set(schemas.flatMap((schema) => [...(this.#listeners.get(schema) ?? [])]));
    for (const onEvents of told) onEvents(span);
  }
}
