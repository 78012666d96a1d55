/** A request's body, read from the socket within a limit. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { HostError, toHostError } from "../kernel/errors.ts";

/**
 * The whole body of `incoming`, which is taken for UTF-8. Rejects with `BODY_TOO_LARGE`
 * as soon as the announced or received length is over `limitBytes`, with `signal`'s reason, or with `CANCELLED`
 * where the connection ends before the body does. After a rejection nothing of the body is kept or read here.
 */
export function readBody(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  limitBytes: number,
  signal?: AbortSignal,
): Promise<string> {
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
      else resolve(textOf(chunks));
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

/** Most bodies come in one piece. */
function textOf(chunks: readonly Buffer[]): string {
  const [first] = chunks;
  if (first === undefined) return "";
  return (chunks.length === 1 ? first : Buffer.concat(chunks)).toString("utf8");
}
