/** Reads a request's body within a size limit. */
import { isUtf8 } from "node:buffer";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { CancellationToken } from "../shared/kernel/cancellation.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import type { Wait } from "./client-backlog.ts";

/** Bodies up to this size are not counted, so that slow large ones do not keep them out. */
const uncountedBytes = 16 * 1024;

/** A request whose body is to be read. */
export interface BodySource {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** Its abort ends the reading. */
  readonly signal?: CancellationToken;
}

/**
 * Resolves with the whole body. Rejects with `BODY_TOO_LARGE` as soon as the announced or received length exceeds `limitBytes`,
 * with `BAD_REQUEST` if the body is not UTF-8, with the signal's reason, with `CANCELLED` if the connection ends first, or with
 * `NO_CAPACITY` if too much is held for slow clients. What has arrived counts as `wait`'s until the caller calls `wait.leave`. After
 * a rejection nothing of the body is kept or read any more.
 */
export function readBody(
  { incoming, outgoing, signal }: BodySource,
  limitBytes: number,
  wait?: Wait,
): Promise<string> {
  const announcedBytes = Number(incoming.headers["content-length"] ?? limitBytes);
  if (announcedBytes > limitBytes) return Promise.reject(tooLarge(limitBytes));
  // The listener leaves 100 Continue to whoever wants the body, so a refused upload never starts.
  if (incoming.headers.expect !== undefined) outgoing.writeContinue();

  return new Promise((resolve, reject) => {
    const pieces = new Pieces(announcedBytes);
    const settle = (error?: HostError): void => {
      incoming.off("data", onData);
      incoming.off("end", onEnd);
      incoming.off("error", onGone);
      incoming.off("close", onGone);
      signal?.removeEventListener("abort", onAbort);
      if (error === undefined) {
        wait?.keep();
        resolve(pieces.toString());
      } else {
        wait?.leave();
        reject(error);
      }
    };
    const hasRoom = (bytes: number): boolean =>
      wait === undefined || pieces.length <= uncountedBytes || wait.add(bytes, () => settle(noRoom()));
    const onData = (chunk: Buffer): void => {
      pieces.add(chunk);
      if (pieces.length > limitBytes) settle(tooLarge(limitBytes));
      else if (!hasRoom(chunk.byteLength)) settle(noRoom());
    };
    const onEnd = (): void => settle(pieces.isText ? undefined : notText());
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
const noRoom = (): HostError =>
  new HostError("NO_CAPACITY", "slow request bodies and unread responses use too much memory");
const notText = (): HostError => new HostError("BAD_REQUEST", "The request body is not UTF-8.");

/** Shared, because allocating a Buffer takes as long as the rest of reading a small body. */
const nothing: Buffer = Buffer.alloc(0);

/**
 * What has arrived so far. Most bodies arrive in one piece, which is kept as it is. Further pieces are copied together as they arrive:
 * a body may arrive one byte at a time, and each piece is a Buffer that takes about a hundred bytes.
 */
class Pieces {
  readonly #mostBytes: number;
  #bytes = nothing;
  length = 0;

  /** Allocates more than `mostBytes`, the announced length, only if more bytes arrive. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  add(piece: Buffer): void {
    const { length } = this;
    this.length += piece.byteLength;
    if (length === 0) {
      this.#bytes = piece;
      return;
    }
    if (this.length > this.#bytes.byteLength) {
      const room = Math.min(Math.max(1024, 2 * this.length), this.#mostBytes);
      const larger = Buffer.allocUnsafeSlow(Math.max(room, this.length));
      this.#bytes.copy(larger, 0, 0, length);
      this.#bytes = larger;
    }
    piece.copy(this.#bytes, length);
  }

  get isText(): boolean {
    // The one piece that most bodies are is not cut: a view of it is a Buffer more.
    return isUtf8(
      this.#bytes.byteLength === this.length ? this.#bytes : this.#bytes.subarray(0, this.length),
    );
  }

  toString(): string {
    return this.#bytes.toString("utf8", 0, this.length);
  }
}
