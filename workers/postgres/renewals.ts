/** Renews a pool's connections by what their backends have seen: PostgreSQL gives nothing of its caches back before a session ends. */
import { z } from "zod";
import { messageOf } from "../../src/shared/kernel/errors.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";
import type { RenewAfter, RenewalCounts, RenewalReason } from "../../src/shared/protocol/messages.ts";
import type { Connection } from "./connection.ts";
import type { Place, Places } from "./places.ts";

/** At most one connection is renewed or asked in this time: a new one plans anew whatever its tenants ask. */
const everyMs = 5_000;
/** A backend is asked for its memory once in so many turns; that takes PostgreSQL some milliseconds. */
const turnsBetweenQuestions = 12;
/** How many turns pass after one in which no other connection was to be had. */
const turnsAfterFailure = 12;
const answerMs = 5_000;

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

/**
 * Fails without the rights of pg_read_all_stats, and before PostgreSQL 14. It runs as the host's role, so no operator stands in it:
 * one with exactly matching types would be taken from any schema of the search path before PostgreSQL's own.
 */
const memoryQuery = "select pg_catalog.sum(total_bytes) as bytes from pg_catalog.pg_backend_memory_contexts";
const memoryRows = z.tuple([z.object({ bytes: z.coerce.number() })]);

interface Known {
  readonly sinceMs: number;
  askedMs: number;
  /** How often it had been used when it was asked. */
  askedUses: number;
  memoryMb: number | null;
}

export class Renewals {
  readonly #places: Places;
  readonly #limits: RenewAfter;
  readonly #log: (message: string) => void;
  readonly #periodMs: number;
  readonly #askedEveryMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #known = new WeakMap<Connection, Known>();
  #counts: Record<RenewalReason, number> = { tenants: 0, age: 0, memory: 0 };
  #tellsMemory: boolean;
  #turn: Promise<void> | null = null;
  #renewedMs = Number.NEGATIVE_INFINITY;
  #failedMs = Number.NEGATIVE_INFINITY;
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
    const due = this.#mayOpen ? this.#due : [];
    const asked = due.length === 0 && this.#tellsMemory ? this.#toBeAsked : [];
    const free = [...due, ...asked].find(({ isFree }) => isFree);
    if (free !== undefined) {
      this.#inTurn(this.#places.during(free, () => this.#care(free)));
      return;
    }
    // Between two of its requests, whenever that is; another one that is returned before comes first.
    for (const place of [...due, ...asked.slice(0, 1)]) this.#careWhenFree(place);
  }

  /** Decided only now: the connection may have been closed, or lost, while others had it. */
  #care(place: Place): Promise<void> {
    const reason = this.#mayOpen ? this.#reason(place) : null;
    return reason === null ? this.#ask(place) : this.#renew(place, reason);
  }

  /** The oldest first. */
  get #due(): readonly Place[] {
    return this.#places.all
      .filter((place) => this.#reason(place) !== null)
      .toSorted((one, other) => this.#sinceMs(one) - this.#sinceMs(other));
  }

  /** Those that have been used since they were last asked, if that is long ago. */
  get #toBeAsked(): readonly Place[] {
    const nowMs = performance.now();
    return this.#places.all.filter(({ connection }) => {
      if (connection === null || connection.tenants === 0) return false;
      const { askedMs, askedUses } = this.#of(connection);
      return nowMs - askedMs >= this.#askedEveryMs && connection.uses > askedUses;
    });
  }

  /**
   * For a moment a renewal takes one connection more, which is one that the reserve may open. Where PostgreSQL has none to spare, or
   * lets nobody in any more, the connections there are must last.
   */
  get #mayOpen(): boolean {
    if (performance.now() - this.#failedMs < this.#periodMs * turnsAfterFailure) return false;
    const { all } = this.#places;
    const open = all.reduce((sum, { pool }) => sum + pool.totalCount, 0);
    return open < all.length || !all.some(({ isReserve }) => isReserve);
  }

  #inTurn(work: Promise<void>): void {
    this.#turn = work.finally(() => {
      this.#turn = null;
    });
  }

  #careWhenFree(place: Place): void {
    if (this.#awaited.has(place)) return;
    this.#awaited.add(place);
    const early = (): boolean => performance.now() - this.#renewedMs < this.#periodMs;
    void this.#places.during(place, async () => {
      this.#awaited.delete(place);
      if (this.#turn !== null || early()) return;
      this.#inTurn(this.#care(place));
      await this.#turn;
    });
  }

  #sinceMs({ connection }: Place): number {
    return connection === null ? 0 : this.#of(connection).sinceMs;
  }

  #reason({ connection }: Place): RenewalReason | null {
    if (connection === null) return null;
    const { sinceMs, memoryMb } = this.#of(connection);
    const wear = { tenants: connection.tenants, ageMs: performance.now() - sinceMs, memoryMb };
    return renewalReason(wear, this.#limits);
  }

  /** What is known of `connection`, from when it is first seen on. */
  #of(connection: Connection): Known {
    const known = this.#known.get(connection);
    if (known !== undefined) return known;
    const nowMs = performance.now();
    const fresh = { sinceMs: nowMs, askedMs: nowMs, askedUses: 0, memoryMb: null };
    this.#known.set(connection, fresh);
    return fresh;
  }

  /** Replaces the connection of `place`, which is held for this. */
  async #renew(place: Place, reason: RenewalReason): Promise<void> {
    if (!place.isOpen || place.pool.ending) return;
    this.#renewedMs = performance.now();
    // The next one a whole period later, also if this one had to wait for its request.
    this.#timer.refresh();
    try {
      await place.replace();
      this.#counts[reason] += 1;
    } catch (error) {
      if (place.pool.ending) return;
      this.#failedMs = performance.now();
      this.#log(
        `a connection was due to be renewed and is kept, for no other can be had: ${messageOf(error)}`,
      );
    }
  }

  /** The question goes through the connection, which first clears what a tenant's function may have left in the session. */
  async #ask(place: Place): Promise<void> {
    const { connection } = place;
    if (connection === null || !this.#tellsMemory || !place.isOpen) return;
    if (!(await isTaken(place, connection))) return;
    const known = this.#of(connection);
    known.askedMs = performance.now();
    known.askedUses = connection.uses;
    const limit = setTimeout(() => connection.cancel(), answerMs);
    try {
      const { rows } = await connection.send([{ text: memoryQuery }]);
      known.memoryMb = memoryRows.parse(rows)[0].bytes / 2 ** 20;
    } catch (error) {
      // Anything else may come from what a tenant's function left in this session.
      if (!hasState(error, "insufficient_privilege", "undefined_table")) return;
      this.#tellsMemory = false;
      this.#log(`PostgreSQL does not tell a session's memory, so it is not limited: ${messageOf(error)}`);
    } finally {
      clearTimeout(limit);
      connection.release();
    }
  }
}

/** Takes `connection` out of the pool of `place`; false if it has just been lost. */
async function isTaken(place: Place, connection: Connection): Promise<boolean> {
  try {
    const client = await place.pool.connect();
    if (client === connection.client) return true;
    client.release();
  } catch {
    // A request that needs the connection reports why it cannot be opened.
  }
  return false;
}
