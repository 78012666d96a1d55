/** A request's body, read from the socket within a limit. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { HostError, toHostError } from "../kernel/errors.ts";

/**
 * The whole body of `incoming`, in a buffer of its own that may be moved to a thread. Rejects with `BODY_TOO_LARGE`
 * as soon as the announced or received length is over `limitBytes`, with `signal`'s reason, or with `CANCELLED`
 * where the connection ends before the body does. After a rejection nothing of the body is kept or read here.
 */
export function readBody(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  limitBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  if (Number(incoming.headers["content-length"] ?? 0) > limitBytes)
    return Promise.reject(tooLarge(limitBytes));
  // The listener leaves this answer to whoever wants the body: a refused upload never starts.
  if (incoming.headers.expect !== undefined) outgoing.writeContinue();

  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const settle = (error?: HostError): void => {
      incoming.off("data", onData);
      incoming.off("end", onEnd);
      incoming.off("error", onGone);
      incoming.off("close", onGone);
      signal?.removeEventListener("abort", onAbort);
      if (error !== undefined) reject(error);
      else resolve(joined(chunks, length));
    };
    const onData = (chunk: Buffer): void => {
      length += chunk.byteLength;
      if (length > limitBytes) settle(tooLarge(limitBytes));
      else chunks.push(chunk);
    };
    const onEnd = (): void => settle();
    const onGone = (): void => settle(new HostError("CANCELLED"));
    const onAbort = (): void => settle(toHostError(signal?.reason));
    incoming.on("data", onData);
    incoming.on("end", onEnd);
    incoming.on("error", onGone);
    incoming.on("close", onGone);
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    else if (incoming.destroyed) onGone();
  });
}

const tooLarge = (limitBytes: number): HostError =>
  new HostError("BODY_TOO_LARGE", `The request body is larger than ${limitBytes} bytes.`);

/** Not Buffer.concat: its small results share a pool, and a clone would take other requests' bytes to the thread. */
function joined(chunks: readonly Buffer[], length: number): Uint8Array<ArrayBuffer> {
  const body = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return body;
}
