/** A stream of the process whose writes go elsewhere. */

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
