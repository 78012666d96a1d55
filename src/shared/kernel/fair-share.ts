/** Which tenant may have one more connection of a pool, and who is next. Pure. */

/** How many connections there are, and how many are granted. */
export interface PoolState {
  /** Connections that any tenant may use; a tenant alone may use all of them. */
  readonly size: number;
  /** Connections beyond `size`, for tenants that hold none. */
  readonly reserve: number;
  readonly granted: number;
  /** Whether more than one tenant has used the pool so far. */
  readonly several: boolean;
}

export interface Asker {
  readonly held: number;
  /** Whether it holds connections for long, or did recently. */
  readonly slow: boolean;
  /**
   * Whether the asking request holds a connection that it cannot return before it gets another, and its
   * tenant has no grant beyond the open places for that yet: one is enough for all requests of a tenant to
   * finish one after another.
   */
  readonly nested: boolean;
}

/**
 * How many connections any tenant may take. Without a reserve the last one is kept back, unless a single
 * tenant uses the pool.
 */
export function openPlaces({ size, reserve, several }: PoolState): number {
  return reserve > 0 || !several ? size : Math.max(1, size - 1);
}

/**
 * Whether `asker` may have a connection now, if nobody is ahead of it. Connections beyond the open places go
 * to tenants that hold none, so that n of them hold at most `size` + n - 1 together, and to requests that
 * could not finish otherwise, one per tenant. Slow tenants never get the last of a reserve: however many
 * sleep on their connections, one is left for the others.
 */
export function mayAcquire(pool: PoolState, asker: Asker): boolean {
  const { size, reserve, granted } = pool;
  if (granted < openPlaces(pool)) return true;
  const leftBehind = size + reserve - granted - 1;
  if (leftBehind < 0 || (asker.held > 0 && !asker.nested)) return false;
  return leftBehind > 0 || (reserve === 0 && asker.held === 0) || !asker.slow;
}

/**
 * Which of `waiting`, in the order of their turns, is next, if any may have a connection: the one that holds
 * fewest, then one that is not slow, then the one whose turn it is.
 */
export function nextOf<Waiting extends Asker>(
  pool: PoolState,
  waiting: Iterable<Waiting>,
): Waiting | undefined {
  if (pool.granted >= pool.size + pool.reserve) return undefined;
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
