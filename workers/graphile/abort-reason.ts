/** Shares the default reason of AbortController. */

/**
 * Makes `abort()` without a reason reuse one object. Otherwise it makes a DOMException with a stack each time, and Grafast aborts
 * at the end of every operation, when nobody reads the reason any more: 8 of the 16 µs that `{ __typename }` takes in a thread.
 */
export function shareAbortReason(): true {
  const shared = Object.freeze(new DOMException("This operation was aborted", "AbortError"));
  const { abort } = AbortController.prototype;
  AbortController.prototype.abort = function (reason: unknown = shared): void {
    abort.call(this, reason);
  };
  return true;
}
