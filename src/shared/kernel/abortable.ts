/** Work that is given up when a signal aborts. */
import type { CancellationToken } from "./cancellation.ts";

/**
 * Runs `work` and settles as it does, unless `signal` aborts first: then rejects at once with what `refusal`
 * returns, and leaves `work` to itself. `work` is not begun if the signal has aborted. It gets a function
 * from whose call on an abort makes no difference any more.
 */
export function unlessAborted<Value>(
  signal: CancellationToken,
  refusal: () => unknown,
  work: (ignoreAbort: () => void) => Promise<Value>,
): Promise<Value> {
  if (signal.aborted) return Promise.reject(refusal());
  // Promise.race and finally would make four promises more, several times for every request.
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(refusal());
    const ignoreAbort = (): void => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort, { once: true });
    work(ignoreAbort).then(
      (value) => {
        ignoreAbort();
        resolve(value);
      },
      (error: unknown) => {
        ignoreAbort();
        reject(error);
      },
    );
  });
}
