/** Renews a pool's connections by what their backends have seen: PostgreSQL gives nothing of its caches back before a session ends. */
import type { PoolClient } from "pg";
import { z } from "zod";
import { messageOf } from "../../src/shared/kernel/errors.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";
import type { RenewAfter, RenewalCounts, RenewalReason } from "../../src/shared/protocol/messages.ts";
import type { Place, Places } from "./places.ts";

/** At most one connection is renewed or asked in this time: a new one plans anew whatever its tenants ask. */
const everyMs = 5_000;
/** A backend is asked for its memory once in so many turns; that takes PostgreSQL some milliseconds. */
const turnsBetweenQuestions = 12;

export interface Wear {
  readonly tenants: number;
  readonly ageMs: number;
  /** As last told; null if unknown. */
  readonly memoryMb: number | null;
}

/** Why a connection is to be renewed; null if it is not. A limit of 0 is none. */
export function renewalReason(wear: Wear, limits: RenewAfter): RenewalReason | null {
  if (limits.memoryMb > 0 && wear.memoryMb !== null && wear.memoryMb >= limits.memoryMb) return "memory";
  if (limits.tenants > 0 && wear.tenants >= limits.tenants) return "tenants";
  return limits.ageMs > 0 && wear.ageMs >= limits.ageMs ? "age" : null;
}

/** Fails without the rights of pg_read_all_stats, and before PostgreSQL 14. */
const memoryQuery =
  "select (pg_catalog.sum(total_bytes) / 1048576)::pg_catalog.float8 as mb from pg_catalog.pg_backend_memory_contexts";
const memoryRows = z.tuple([z.object({ mb: z.number() })]);

interface Known {
  readonly client: PoolClient;
  readonly sinceMs: number;
  askedMs: number;
  /** Tenants that it had seen when it was asked. */
  askedTenants: number;
  memoryMb: number | null;
}

export class Renewals {
  readonly #places: Places;
  readonly #limits: RenewAfter;
  readonly #log: (message: string) => void;
  readonly #periodMs: number;
  readonly #askedEveryMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #known = new WeakMap<PoolClient, Known>();
  #counts: Record<RenewalReason, number> = { tenants: 0, age: 0, memory: 0 };
  #tellsMemory: boolean;
  #turn: Promise<void> | null = null;
  #renewedMs = Number.NEGATIVE_INFINITY;
  /** Places that were busy when they were due. */
  readonly #awaited = new Set<Place>();

  /** `log` receives what an operator may want to know. */
  constructor(
    places: Places,
    { periodMs = everyMs, ...limits }: RenewAfter & { readonly periodMs?: number },
    log: (message: string) => void,
  ) {
    this.#places = places;
    this.#limits = limits;
    this.#log = log;
    this.#periodMs = periodMs;
    this.#askedEveryMs = periodMs * turnsBetweenQuestions;
    this.#tellsMemory = limits.memoryMb > 0;
    this.#timer = setInterval(() => this.#next(), periodMs).unref();
  }

  /** The renewals since the last call. */
  take(): RenewalCounts {
    const counts = this.#counts;
    this.#counts = { tenants: 0, age: 0, memory: 0 };
    return counts;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Renews the oldest connection that is due, or else asks one for its memory; one at a time. */
  #next(): void {
    if (this.#turn !== null) return;
    const due = this.#places.all
      .filter((place) => this.#reason(place) !== null)
      .toSorted((one, other) => this.#sinceMs(one) - this.#sinceMs(other));
    const free = due.find(({ isFree }) => isFree);
    if (free !== undefined) {
      this.#inTurn(this.#places.during(free, () => this.#renew(free)));
      return;
    }
    // Between two of its requests, whenever that is; another one that is returned before is renewed first.
    for (const place of due) this.#renewWhenFree(place);
    if (due.length === 0 && this.#tellsMemory) this.#inTurn(this.#askNext());
  }

  #inTurn(work: Promise<void>): void {
    this.#turn = work.finally(() => {
      this.#turn = null;
    });
  }

  #renewWhenFree(place: Place): void {
    if (this.#awaited.has(place)) return;
    this.#awaited.add(place);
    const early = (): boolean => performance.now() - this.#renewedMs < this.#periodMs;
    void this.#places.during(place, async () => {
      this.#awaited.delete(place);
      if (this.#turn !== null || early()) return;
      this.#inTurn(this.#renew(place));
      await this.#turn;
    });
  }

  #sinceMs({ connection }: Place): number {
    return connection === null ? 0 : this.#of(connection.client).sinceMs;
  }

  #reason({ connection }: Place): RenewalReason | null {
    if (connection === null) return null;
    const { sinceMs, memoryMb } = this.#of(connection.client);
    const wear = { tenants: connection.tenants, ageMs: performance.now() - sinceMs, memoryMb };
    return renewalReason(wear, this.#limits);
  }

  /** What is known of the connection of `client`, from when it is first seen on. */
  #of(client: PoolClient): Known {
    const known = this.#known.get(client);
    if (known !== undefined) return known;
    const nowMs = performance.now();
    const fresh = { client, sinceMs: nowMs, askedMs: nowMs, askedTenants: 0, memoryMb: null };
    this.#known.set(client, fresh);
    return fresh;
  }

  /** Closes the connection, which nobody uses now, and opens another; a request that needs it before opens it itself. */
  async #renew(place: Place): Promise<void> {
    // It may have been closed, or lost, while others had it.
    const reason = this.#reason(place);
    if (reason === null || !place.isOpen || place.pool.ending) return;
    this.#renewedMs = performance.now();
    try {
      const old = await place.pool.connect();
      old.release(true);
      this.#counts[reason] += 1;
      (await place.pool.connect()).release();
    } catch (error) {
      this.#log(`a renewed connection could not be opened: ${messageOf(error)}`);
    }
  }

  /** Asks the free connection that has seen new tenants since it was last asked, if that is long ago. */
  async #askNext(): Promise<void> {
    const nowMs = performance.now();
    const place = this.#places.all.find(({ connection, isFree, isOpen }) => {
      if (connection === null || !isFree || !isOpen) return false;
      const { askedMs, askedTenants } = this.#of(connection.client);
      return nowMs - askedMs >= this.#askedEveryMs && connection.tenants > askedTenants;
    });
    if (place !== undefined) await this.#places.during(place, () => this.#ask(place));
  }

  async #ask(place: Place): Promise<void> {
    try {
      const client = await place.pool.connect();
      const known = this.#of(client);
      known.askedMs = performance.now();
      known.askedTenants = place.connection?.tenants ?? 0;
      try {
        const { rows } = await client.query(memoryQuery);
        known.memoryMb = memoryRows.parse(rows)[0].mb;
      } catch (error) {
        // Anything else may come from what a tenant's function left in this session.
        if (!hasState(error, "insufficient_privilege", "undefined_table")) return;
        this.#tellsMemory = false;
        this.#log(`PostgreSQL does not tell a session's memory, so it is not limited: ${messageOf(error)}`);
      } finally {
        client.release();
      }
    } catch {
      // The connection was lost while it was idle; a request that needs it reports why it cannot be opened.
    }
  }
}
