/** Shares a pool's connections among tenants. `fair-share.ts` decides; this keeps track of grants and waiters. */

import type { CancellationToken } from "../kernel/cancellation.ts";
import { type ErrorCode, HostError } from "../kernel/errors.ts";
import { type Asker, mayAcquire, nextOf, openPlaces } from "../kernel/fair-share.ts";

export interface TenantSharesOptions {
  readonly size: number;
  readonly reserve: number;
  /** How long to wait for a connection, and the error code on timeout. */
  readonly timeoutMs: number;
  readonly code: ErrorCode;
  readonly clock?: { now(): number };
}

/**
 * The tenant name for the host's own work, such as a build. It counts as one more tenant, but does not make a
 * single-tenant pool a shared one.
 */
export const hostsOwn = "";

/**
 * A tenant that holds a connection for this long is slow. After returning it, the tenant stays slow for as
 * long as it held it, up to a minute.
 */
const slowMs = 1_000;
const longestSlowMs = 60_000;
/** After PostgreSQL has refused a connection, none is requested beyond the pool's size for this long. */
const refusedMs = 5_000;

/** The right to one connection; release it once, whatever happened to the connection. */
export class Grant {
  readonly holder: Holder;
  /** Whether it exceeds the pool's size. */
  readonly beyond: boolean;
  /** Whether it was granted beyond the open places, to a request that holds another. */
  readonly nested: boolean;
  readonly sinceMs: number;
  /** The grant that its request already held. */
  readonly parent: Grant | null;
  /** Number of grants and waiters that have this one as parent: it is not released before they are. */
  awaited = 0;
  released = false;
  readonly #shares: TenantShares;

  constructor(
    shares: TenantShares,
    holder: Holder,
    facts: Pick<Grant, "beyond" | "nested" | "sinceMs" | "parent">,
  ) {
    this.#shares = shares;
    this.holder = holder;
    this.beyond = facts.beyond;
    this.nested = facts.nested;
    this.sinceMs = facts.sinceMs;
    this.parent = facts.parent;
  }

  release(): void {
    this.#shares.release(this);
  }
}

interface Waiter {
  readonly holder: Holder;
  /** The grant that its request holds while waiting. */
  readonly parent: Grant | null;
  readonly resolve: (grant: Grant) => void;
  readonly reject: (error: Error) => void;
  /** Null once it no longer waits. */
  end: (() => void) | null;
}

/** A tenant that holds connections or waits for them. */
class Holder implements Asker {
  readonly tenant: string;
  held = 0;
  nestedHeld = 0;
  /** Time of its last grant. */
  grantedMs = 0;
  queue: Waiter[] | null = null;
  readonly #isSlow: (holder: Holder) => boolean;

  constructor(tenant: string, isSlow: (holder: Holder) => boolean) {
    this.tenant = tenant;
    this.#isSlow = isSlow;
  }

  get slow(): boolean {
    return this.#isSlow(this);
  }

  get nested(): boolean {
    const first = this.queue?.[0];
    return this.nestedHeld === 0 && first !== undefined && first.parent !== null;
  }
}

export class TenantShares {
  readonly #options: TenantSharesOptions;
  readonly #clock: { now(): number };
  readonly #pool: { readonly size: number; reserve: number; granted: number; several: boolean };
  /** Number of granted connections within the pool's size. */
  #grantedWithin = 0;
  readonly #holders = new Map<string, Holder>();
  /** Tenants in the order of their turns. */
  readonly #waiting = new Set<Holder>();
  /** Waiters whose requests hold another grant, oldest first. */
  readonly #nested = new Set<Waiter>();
  /** Number of grants that wait for another to be released first; if all do, it is a deadlock. */
  #stuck = 0;
  /** Until when a tenant counts as slow after it returned its connections. */
  readonly #slowUntilMs = new Map<string, number>();
  #only: string | null = null;
  #waiters = 0;
  #slowTimer: NodeJS.Timeout | undefined;
  #refusedTimer: NodeJS.Timeout | undefined;

  constructor(options: TenantSharesOptions) {
    const { size, reserve, clock = performance } = options;
    this.#options = options;
    this.#clock = clock;
    this.#pool = { size, reserve, granted: 0, several: false };
  }

  get granted(): number {
    return this.#pool.granted;
  }

  /** Waiting requests of all tenants. */
  get waiting(): number {
    return this.#waiters;
  }

  /**
   * Grants one connection to `tenant`: at once if there is one that it may have and nobody waits before it.
   * Rejects with the configured code after the timeout, and with `CANCELLED` as soon as `signal` aborts.
   * `parent` is the grant that the asking request holds: if every granted connection waits for another one in
   * this way, the latest waiter is rejected at once, because none would ever become free.
   */
  acquire(tenant: string, signal?: CancellationToken, parent?: Grant | null): Grant | Promise<Grant> {
    if (!this.#pool.several && tenant !== hostsOwn) {
      this.#only ??= tenant;
      this.#pool.several = this.#only !== tenant;
    }
    const holder = this.#holders.get(tenant) ?? this.#newHolder(tenant);
    const holding = parent == null || parent.released ? null : parent;
    if (this.#waiting.size === 0 && holding === null && mayAcquire(this.#pool, holder)) {
      return this.#grant(holder, null);
    }
    return this.#wait(holder, signal, holding);
  }

  /** See `Grant.release`. Idempotent. */
  release(grant: Grant): void {
    if (!this.#reclaim(grant)) return;
    const nowMs = this.#clock.now();
    const heldMs = nowMs - grant.sinceMs;
    if (heldMs >= slowMs) this.#remember(grant.holder.tenant, nowMs, heldMs);
    if (this.#waiting.size === 0) return;
    this.#toTheBack(grant.holder);
    this.#dispatch();
  }

  /**
   * Takes back `grant`, for which PostgreSQL had no connection, and waits for another. `open` is the number
   * of existing connections beyond the pool's size, which are the whole reserve for some seconds.
   */
  refuse(grant: Grant, open: number, signal?: CancellationToken): Promise<Grant> {
    this.#reclaim(grant);
    this.#pool.reserve = Math.min(this.#options.reserve, open);
    clearTimeout(this.#refusedTimer);
    this.#refusedTimer = setTimeout(() => {
      this.#pool.reserve = this.#options.reserve;
      this.#dispatch();
    }, refusedMs);
    const { holder, parent } = grant;
    this.#holders.set(holder.tenant, holder);
    return this.#wait(holder, signal, parent?.released === false ? parent : null, true);
  }

  /** Rejects all waiters. */
  close(): void {
    clearTimeout(this.#slowTimer);
    clearTimeout(this.#refusedTimer);
    const waiters = [...this.#waiting].flatMap(({ queue }) => queue ?? []);
    for (const waiter of waiters) this.#reject(waiter, new HostError("SHUTTING_DOWN"));
  }

  #newHolder(tenant: string): Holder {
    const holder = new Holder(tenant, this.#isSlow);
    this.#holders.set(tenant, holder);
    return holder;
  }

  readonly #isSlow = ({ tenant, held, grantedMs }: Holder): boolean => {
    const nowMs = this.#clock.now();
    if (held > 0 && nowMs - grantedMs >= slowMs) return true;
    const untilMs = this.#slowUntilMs.get(tenant);
    return untilMs !== undefined && untilMs > nowMs;
  };

  #remember(tenant: string, nowMs: number, heldMs: number): void {
    for (const [other, untilMs] of this.#slowUntilMs) {
      if (untilMs <= nowMs) this.#slowUntilMs.delete(other);
    }
    const untilMs = nowMs + Math.min(heldMs, longestSlowMs);
    this.#slowUntilMs.set(tenant, Math.max(untilMs, this.#slowUntilMs.get(tenant) ?? 0));
  }

  #grant(holder: Holder, parent: Grant | null): Grant {
    const pool = this.#pool;
    const nested = parent !== null && holder.held > 0 && pool.granted >= openPlaces(pool);
    const beyond = this.#grantedWithin >= pool.size;
    const sinceMs = this.#clock.now();
    pool.granted += 1;
    if (!beyond) this.#grantedWithin += 1;
    holder.held += 1;
    if (nested) holder.nestedHeld += 1;
    holder.grantedMs = sinceMs;
    return new Grant(this, holder, { beyond, nested, sinceMs, parent });
  }

  #reclaim(grant: Grant): boolean {
    if (grant.released) return false;
    grant.released = true;
    const { holder, parent } = grant;
    this.#pool.granted -= 1;
    if (!grant.beyond) this.#grantedWithin -= 1;
    if (grant.awaited > 0) this.#stuck -= 1;
    if (parent !== null) this.#await(parent, -1);
    if (grant.nested) holder.nestedHeld -= 1;
    holder.held -= 1;
    this.#forgetIdle(holder);
    return true;
  }

  #forgetIdle({ held, queue, tenant }: Holder): void {
    if (held === 0 && (queue === null || queue.length === 0)) this.#holders.delete(tenant);
  }

  #wait(
    holder: Holder,
    signal: CancellationToken | undefined,
    parent: Grant | null,
    first = false,
  ): Promise<Grant> {
    const { timeoutMs, code } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<Grant>();
    const waiter: Waiter = { holder, parent, resolve, reject, end: () => undefined };
    this.#enqueue(waiter, first);
    this.#dispatch();
    if (waiter.end === null) return promise;
    const cancel = (): void => this.#reject(waiter, new HostError("CANCELLED"));
    const timer = setTimeout(() => {
      this.#reject(waiter, new HostError(code, `no connection became free within ${timeoutMs} ms`));
    }, timeoutMs);
    signal?.addEventListener("abort", cancel, { once: true });
    waiter.end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
    };
    if (signal?.aborted === true) cancel();
    return promise;
  }

  /**
   * Requests that hold a connection go before the others of their tenant, as does one whose connection was
   * refused.
   */
  #enqueue(waiter: Waiter, first: boolean): void {
    const { holder, parent } = waiter;
    holder.queue ??= [];
    const held = holder.queue.findIndex((other) => other.parent === null);
    const behind = held === -1 ? holder.queue.length : held;
    holder.queue.splice(first || parent !== null ? behind : holder.queue.length, 0, waiter);
    this.#waiting.add(holder);
    this.#waiters += 1;
    if (parent === null) return;
    this.#nested.add(waiter);
    this.#await(parent, 1);
  }

  #await(parent: Grant, more: 1 | -1): void {
    const before = parent.awaited > 0;
    parent.awaited += more;
    if (parent.released) return;
    this.#stuck += Number(parent.awaited > 0) - Number(before);
  }

  #dequeue(waiter: Waiter): void {
    const { holder, parent } = waiter;
    waiter.end?.();
    waiter.end = null;
    this.#waiters -= 1;
    const queue = holder.queue ?? [];
    queue.splice(queue.indexOf(waiter), 1);
    if (queue.length === 0) this.#waiting.delete(holder);
    this.#forgetIdle(holder);
    if (parent !== null) this.#nested.delete(waiter);
  }

  #reject(waiter: Waiter, error: Error): void {
    if (waiter.end === null) return;
    this.#dequeue(waiter);
    if (waiter.parent !== null) this.#await(waiter.parent, -1);
    waiter.reject(error);
  }

  /** Grants whatever may be granted now. */
  #dispatch(): void {
    for (;;) {
      const waiter = nextOf(this.#pool, this.#waiting)?.queue?.[0];
      if (waiter === undefined) break;
      this.#serve(waiter);
    }
    this.#breakDeadlock();
    this.#awaitHaste();
  }

  #serve(waiter: Waiter): void {
    const { holder, parent } = waiter;
    const grant = this.#grant(holder, parent);
    this.#dequeue(waiter);
    this.#toTheBack(holder);
    waiter.resolve(grant);
  }

  /** A tenant that holds a connection, or has just returned one, has had its turn. */
  #toTheBack(holder: Holder): void {
    if (this.#waiting.delete(holder)) this.#waiting.add(holder);
  }

  /**
   * If every holder waits for another connection, the first waiter gets what is left, whoever that was
   * reserved for; if nothing is left, the last one is rejected.
   */
  #breakDeadlock(): void {
    const { size, reserve } = this.#pool;
    while (this.#stuck > 0 && this.#stuck === this.#pool.granted) {
      const [first] = this.#nested;
      const last = [...this.#nested].at(-1);
      if (first === undefined || last === undefined) return;
      const text = "every connection is held by a request that is waiting for another one";
      if (this.#pool.granted < size + reserve) this.#serve(first);
      else this.#reject(last, new HostError(this.#options.code, text));
    }
  }

  /**
   * If a connection is free but its waiters were slow, nothing else may wake them: dispatches again when the
   * first is no longer slow.
   */
  #awaitHaste(): void {
    clearTimeout(this.#slowTimer);
    const { size, reserve, granted } = this.#pool;
    if (this.#waiting.size === 0 || granted >= size + reserve) return;
    let untilMs = Number.POSITIVE_INFINITY;
    for (const { tenant, held } of this.#waiting) {
      if (held === 0) untilMs = Math.min(untilMs, this.#slowUntilMs.get(tenant) ?? untilMs);
    }
    if (untilMs === Number.POSITIVE_INFINITY) return;
    const leftMs = Math.max(1, Math.ceil(untilMs - this.#clock.now()));
    this.#slowTimer = setTimeout(() => this.#dispatch(), leftMs);
  }
}
