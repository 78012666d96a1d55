/** What is there at once, or comes. Of a request that is known through and through, eight waits in a row were 2 µs of the front's. */
export type MaybePromise<Value> = Value | Promise<Value>;
