/**
 * A value that may already be available. Returning it synchronously saves eight awaits (about 2 µs) when
 * tenant, token and instance are cached.
 */
export type MaybePromise<Value> = Value | Promise<Value>;

/** What `next` makes of `value`: at once if both are there at once. (A module that exports `then` would itself be taken for a promise.) */
export function whenKnown<Value, Result>(
  value: MaybePromise<Value>,
  next: (value: Value) => MaybePromise<Result>,
): MaybePromise<Result> {
  return value instanceof Promise ? value.then(next) : next(value);
}
