/**
 * A value that may already be available. Returning it synchronously saves eight awaits (about 2 µs) when
 * tenant, token and instance are cached.
 */
export type MaybePromise<Value> = Value | Promise<Value>;
