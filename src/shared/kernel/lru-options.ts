/** Caches that take room for what they hold. */

/**
 * Options of an LRUCache of at most `most` entries, in place of its `max`: lru-cache 11.5 makes room for all of `max` at once,
 * 20 bytes each and 36 with a `ttl`. The caches of a host came to 4 MB before it had a tenant.
 */
export function lazyLru(most: number): { readonly maxSize: number; readonly sizeCalculation: () => 1 } {
  return { maxSize: most, sizeCalculation: () => 1 };
}
