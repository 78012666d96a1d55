/** Diverts output that would bypass the log: the process's streams, and Node's own warnings. */

/** Passes everything written to `stream` to `take` as text from now on; its writer never blocks. */
export function divert(stream: object, take: (text: string) => void): void {
  const write = (chunk: unknown, ...more: readonly unknown[]): true => {
    take(
      typeof chunk === "string" ? chunk : chunk instanceof Uint8Array ? Buffer.from(chunk).toString() : "",
    );
    const done = more.find((each) => typeof each === "function");
    if (done !== undefined) process.nextTick(done);
    return true;
  };
  Object.assign(stream, { write });
}

/**
 * Passes Node's warnings to `take` from now on. Node's own listener (absent under --no-warnings) writes past
 * all streams and blocks until the reader has read.
 */
export function divertWarnings(take: (text: string) => void): void {
  if (process.listenerCount("warning") === 0) return;
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => take(`${name}: ${message}`));
}
