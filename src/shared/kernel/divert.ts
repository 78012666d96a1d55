/** What would be written past the log: streams of the process, and Node's own warnings. */

/** From now on what is written to `stream` is given to `take` as text, and its writer goes on at once. */
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
 * From now on Node's warnings are given to `take`. Its own listener, which is not there under --no-warnings, writes past all streams and
 * waits for the reader.
 */
export function divertWarnings(take: (text: string) => void): void {
  if (process.listenerCount("warning") === 0) return;
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => take(`${name}: ${message}`));
}
