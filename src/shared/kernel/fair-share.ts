/** Who of several tenants may have one more of a pool's connections, and who is next. Pure. */

/** What there is to lend, and how much of it is lent. */
export interface PoolState {
  /** Connections that any tenant may have, one alone all of them. */
  readonly size: number;
  /** Connections beyond those, for tenants that hold none. */
  readonly reserve: number;
  readonly lent: number;
  /** Whether more than one tenant has asked so far. */
  readonly several: boolean;
}

export interface Asker {
  readonly held: number;
  /** Whether it holds connections for long, or did lately. */
  readonly slow: boolean;
  /**
   * Whether what asks holds a connection that it cannot give back before it has another, and its tenant has none beyond `size` for
   * that yet: one is enough for all requests of a tenant to end one after the other.
   */
  readonly nested: boolean;
}

/** How many of them go to whoever asks. Without a reserve the last one is kept, unless a single tenant uses the pool. */
export function openPlaces({ size, reserve, several }: PoolState): number {
  return reserve > 0 || !several ? size : Math.max(1, size - 1);
}

/**
 * Whether `asker` may have one now, as far as nobody goes before it. Beyond the open places a connection is for tenants that hold none,
 * so that n of them hold `size` + n - 1 together at most, and for requests that could not end without it, one of a tenant. The last of
 * a reserve is not for slow ones: however many tenants sleep on their connections, those that do not have one left.
 */
export function mayAcquire(pool: PoolState, asker: Asker): boolean {
  const { size, reserve, lent } = pool;
  if (lent < openPlaces(pool)) return true;
  const leftBehind = size + reserve - lent - 1;
  if (leftBehind < 0 || (asker.held > 0 && !asker.nested)) return false;
  return leftBehind > 0 || (reserve === 0 && asker.held === 0) || !asker.slow;
}

/**
 * Who of `waiting`, in the order of their turns, is next, if anybody may have one: who holds fewest; of those who is not slow; of those
 * whose turn it is.
 */
export function nextOf<Waiting extends Asker>(
  pool: PoolState,
  waiting: Iterable<Waiting>,
): Waiting | undefined {
  if (pool.lent >= pool.size + pool.reserve) return undefined;
  let next: Waiting | undefined;
  let isSlow = false;
  for (const asker of waiting) {
    if (next !== undefined) {
      if (asker.held > next.held) continue;
      if (asker.held === next.held && (!isSlow || asker.slow)) continue;
    }
    if (!mayAcquire(pool, asker)) continue;
    next = asker;
    isSlow = asker.slow;
  }
  return next;
}
