/** The places for a pool's connections, each held by one request at a time: which one a request gets. */
import type pg from "pg";
import type { CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { hostsOwn } from "../../src/shared/postgres/tenant-shares.ts";
import type { Connection } from "./connection.ts";

/**
 * How long a request waits for its tenant's home while others hold it; then it takes any place. Most statements take less, and
 * while it waits, a connection that could work for it is idle.
 */
const defaultHomeWaitMs = 5;
/** A connection that has seen fewer tenants is as good as their home: their caches in its backend take some 2 MB. */
const roomyTenants = 50;
/** After a connection could not be opened ahead of its need, none is for this long. */
const refusedMs = 5_000;
/** How long a request waits for any place at all. */
const defaultOverdueMs = 10_000;

interface Waiter {
  readonly tenant: string;
  readonly resolve: (place: Place) => void;
  readonly timer: NodeJS.Timeout | undefined;
}

interface Overdue {
  readonly tenant: string;
  readonly resolve: (place: Place) => void;
  readonly reject: (error: HostError) => void;
}

/** Room for one connection, which is opened when it is needed and closed when it has long been idle. */
export class Place {
  /** Of one connection. */
  readonly pool: pg.Pool;
  readonly isReserve: boolean;
  connection: Connection | null = null;
  /** The tenant that holds it; null if nobody does. */
  holder: string | null = null;
  sinceMs = 0;
  readonly queue: Waiter[] = [];

  constructor(isReserve: boolean, open: (place: Place) => pg.Pool) {
    this.isReserve = isReserve;
    this.pool = open(this);
  }

  get isFree(): boolean {
    return this.holder === null;
  }

  /** Whether its connection is open and idle. */
  get isOpen(): boolean {
    return this.pool.idleCount > 0;
  }

  get isRoomy(): boolean {
    return this.pool.totalCount === 0 || (this.connection?.tenants ?? 0) < roomyTenants;
  }

  /**
   * Closes the connection, which must be idle, once another is open; if none can be opened, keeps the old one and throws. For that
   * moment there is one connection more than places.
   */
  async replace(): Promise<void> {
    const { options } = this.pool;
    const old = await this.pool.connect();
    let isReplaced = false;
    try {
      options.max = 2;
      const fresh = await this.pool.connect();
      isReplaced = true;
      fresh.release();
    } finally {
      options.max = 1;
      old.release(isReplaced);
    }
  }
}

/** What holds a place whose connection is being opened, or asked about itself, for nobody's request. */
const ownWork = "\0own work";

export interface PlacesOptions {
  readonly poolSize: number;
  readonly poolReserve: number;
  /** How long a request waits for its tenant's home while other tenants hold it. */
  readonly homeWaitMs?: number;
  /** How long a request waits if no place is free. */
  readonly overdueMs?: number;
}

export class Places {
  readonly all: readonly Place[];
  readonly #size: number;
  readonly #homeWaitMs: number;
  readonly #overdueMs: number;
  /** Requests that found no free place, while a place was held for no request. */
  readonly #overdue: Overdue[] = [];
  #refusedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(
    {
      poolSize: size,
      poolReserve: reserve,
      homeWaitMs = defaultHomeWaitMs,
      overdueMs = defaultOverdueMs,
    }: PlacesOptions,
    open: (place: Place) => pg.Pool,
  ) {
    this.#size = size;
    this.#homeWaitMs = homeWaitMs;
    this.#overdueMs = overdueMs;
    this.all = Array.from({ length: size + reserve }, (_, index) => new Place(index >= size, open));
  }

  /**
   * A place for a request of `tenant`, to be released once. `choices` are the indexes of the places it prefers, its home first. Where
   * `waits`, it waits a moment for a busy home; with other requests of the same tenant it never does, so a tenant alone is not slowed
   * down. The caller must have a grant: there are as many grants as places, so whoever stops waiting finds a free one, unless one is
   * held for no request. Then rejects with `NO_CAPACITY` after a time limit, and with `CANCELLED` as soon as `signal` aborts.
   */
  take(
    tenant: string,
    choices: readonly number[],
    waits: boolean,
    signal?: CancellationToken,
  ): Place | Promise<Place> {
    const home = this.all[choices[0] ?? 0];
    if (home === undefined) throw new RangeError("a pool has at least one place");
    if (home.isFree) {
      if (home.isOpen) return this.#hold(home, tenant);
      const open = this.#first(choices, (place) => place.isOpen);
      if (open === undefined) return this.#hold(home, tenant);
      // Opening takes longer than the request would wait for a busy one.
      this.openAhead(home);
      return this.#hold(open, tenant);
    }
    if (waits && tenant !== hostsOwn && this.#isWorthWaiting(home, tenant)) {
      const roomy = this.#first(choices, (place) => place.isRoomy);
      return roomy === undefined ? this.#wait(home, tenant, choices, signal) : this.#hold(roomy, tenant);
    }
    return this.#any(tenant, choices, signal);
  }

  /** Gives `place` to a waiting request, if there is one. */
  release(place: Place): void {
    place.holder = null;
    const overdue = this.#overdue.shift();
    if (overdue !== undefined) {
      overdue.resolve(this.#hold(place, overdue.tenant));
      return;
    }
    const next = place.queue.shift();
    if (next === undefined) return;
    clearTimeout(next.timer);
    next.resolve(this.#hold(place, next.tenant));
  }

  /** Holds `place` while `work` is done for no request: at once if it is free, else as soon as the request that has it returns it. */
  async during(place: Place, work: () => Promise<void>): Promise<void> {
    if (place.isFree) this.#hold(place, ownWork);
    else {
      await new Promise<Place>((resolve) => {
        place.queue.unshift({ tenant: ownWork, resolve, timer: undefined });
      });
    }
    try {
      await work();
    } finally {
      this.release(place);
    }
  }

  /** Rejects whoever waits for a place. */
  close(): void {
    for (const { reject } of this.#overdue.splice(0)) reject(new HostError("SHUTTING_DOWN"));
  }

  /** Opens the connection of `place`, which must be free, unless one could not be opened a moment ago. */
  openAhead(place: Place): void {
    if (performance.now() < this.#refusedUntilMs || place.pool.ending) return;
    void this.during(place, async () => {
      try {
        (await place.pool.connect()).release();
      } catch {
        // A request that needs the connection reports why it cannot be opened.
        this.#refusedUntilMs = performance.now() + refusedMs;
      }
    });
  }

  #hold(place: Place, tenant: string): Place {
    place.holder = tenant;
    place.sinceMs = performance.now();
    return place;
  }

  /** Not for a tenant's own requests, nor where the one that holds it is slow. */
  #isWorthWaiting(home: Place, tenant: string): boolean {
    if (home.holder === tenant || home.holder === ownWork || home.isRoomy) return false;
    if (performance.now() - home.sinceMs >= this.#homeWaitMs) return false;
    return !home.queue.some((waiter) => waiter.tenant === tenant);
  }

  #wait(
    home: Place,
    tenant: string,
    choices: readonly number[],
    signal: CancellationToken | undefined,
  ): Promise<Place> {
    const { promise, resolve } = Promise.withResolvers<Place>();
    const timer = setTimeout(() => {
      home.queue.splice(home.queue.indexOf(waiter), 1);
      resolve(this.#any(tenant, choices, signal));
    }, this.#homeWaitMs);
    const waiter: Waiter = { tenant, resolve, timer };
    home.queue.push(waiter);
    return promise;
  }

  #any(
    tenant: string,
    choices: readonly number[],
    signal: CancellationToken | undefined,
  ): Place | Promise<Place> {
    const place =
      this.#first(choices, (place) => place.isOpen) ?? this.#first(choices, () => true) ?? this.#reserved();
    return place === undefined ? this.#whenReleased(tenant, signal) : this.#hold(place, tenant);
  }

  #whenReleased(tenant: string, signal: CancellationToken | undefined): Promise<Place> {
    const { promise, resolve, reject } = Promise.withResolvers<Place>();
    const giveUp = (error: HostError): void => {
      const at = this.#overdue.indexOf(overdue);
      if (at === -1) return;
      this.#overdue.splice(at, 1);
      overdue.reject(error);
    };
    const cancel = (): void => giveUp(new HostError("CANCELLED"));
    const limitMs = this.#overdueMs;
    const timer = setTimeout(() => {
      giveUp(new HostError("NO_CAPACITY", `no connection became free within ${limitMs} ms`));
    }, limitMs);
    const settled = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
    };
    const overdue: Overdue = {
      tenant,
      resolve: (place) => {
        settled();
        resolve(place);
      },
      reject: (error) => {
        settled();
        reject(error);
      },
    };
    this.#overdue.push(overdue);
    signal?.addEventListener("abort", cancel, { once: true });
    if (signal?.aborted === true) cancel();
    return promise;
  }

  /** The first free place within the pool's size that `fits`: of the preferred ones, else of those behind the home. */
  #first(choices: readonly number[], fits: (place: Place) => boolean): Place | undefined {
    for (const index of choices) {
      const place = this.all[index];
      if (place?.isFree === true && fits(place)) return place;
    }
    const from = choices[0] ?? 0;
    for (let step = 1; step < this.#size; step += 1) {
      const place = this.all[(from + step) % this.#size];
      if (place?.isFree === true && fits(place)) return place;
    }
    return undefined;
  }

  #reserved(): Place | undefined {
    let closed: Place | undefined;
    for (let index = this.#size; index < this.all.length; index += 1) {
      const place = this.all[index];
      if (place?.isFree !== true) continue;
      if (place.isOpen) return place;
      closed ??= place;
    }
    return closed;
  }
}
