/** Caches that allocate memory only for what they hold. */

/**
 * Options for an LRUCache of at most `max` entries, instead of its own `max`: with that, lru-cache 11.5 allocates
 * for all entries at once, 20 bytes each and 36 with a `ttl`. The caches of a host came to 4 MB before it had
 * a tenant.
 */
export function lazyLru(max: number): { readonly maxSize: number; readonly sizeCalculation: () => 1 } {
  return { maxSize: max, sizeCalculation: () => 1 };
}
