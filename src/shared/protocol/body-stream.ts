/**
 * A byte stream over a MessagePort with credit: the sender never has more than `windowBytes` on their way, so that
 * a client that reads slowly slows the thread's source down instead of filling the front's heap.
 */
import type { MessagePort } from "node:worker_threads";
import { HostError, toHostError, unreachable } from "../kernel/errors.ts";
import type { WireError } from "./messages.ts";
import { fromWireError, parseWireError, toWireError } from "./wire-error.ts";

/** What may be on its way unread. Both sides count on the same number; it is never sent. */
export const windowBytes = 256 * 1024;
/** The largest message: a quarter of the window, so that sending and reading overlap. */
const pieceBytes = windowBytes / 4;

type Downward =
  | { readonly kind: "piece"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  | { readonly kind: "error"; readonly error: WireError };

type Upward =
  | { readonly kind: "credit"; readonly bytes: number }
  | { readonly kind: "cancel"; readonly error: WireError };

/**
 * Sends `source` to whoever receives on the other side of `port`, as fast as they read, and closes the port.
 * Never rejects: resolves to null after the last byte, or to the error that ended the body, which the other side
 * has been told: the source's own, `signal`'s reason, or `CANCELLED` where the other side wanted no more.
 */
export async function sendBody(
  port: MessagePort,
  source: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<HostError | null> {
  const iterator = source[Symbol.asyncIterator]();
  const demand = new Demand();
  const onMessage = (value: unknown): void => demand.hear(parseUpward(value));
  const onClose = (): void => demand.stop(new HostError("CANCELLED"));
  const onAbort = (): void => demand.stop(toHostError(signal?.reason));
  port.on("message", onMessage);
  port.on("close", onClose);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();

  try {
    for (;;) {
      const { done, value } = await demand.unlessStopped(iterator.next());
      if (done === true) break;
      for (let offset = 0; offset < value.byteLength; ) {
        while (demand.credit === 0) await demand.unlessStopped(demand.more());
        // A copy of its own: a view's clone takes its whole buffer along, and moving it would take it from the source.
        const length = Math.min(pieceBytes, demand.credit, value.byteLength - offset);
        const bytes = new Uint8Array(value.subarray(offset, offset + length));
        post(port, { kind: "piece", bytes }, [bytes.buffer]);
        offset += length;
        demand.credit -= length;
      }
    }
    post(port, { kind: "end" });
    return null;
  } catch (thrown) {
    const error = toHostError(thrown);
    post(port, { kind: "error", error: toWireError(error) });
    // Not awaited: a generator answers `return` only after the step it is in, which may never end.
    Promise.resolve(iterator.return?.()).catch(() => {});
    return error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    port.off("message", onMessage);
    port.off("close", onClose);
    port.close();
  }
}

/** What the other side wants of a body: so many bytes more, or no more at all. */
class Demand {
  /** Bytes that may be sent. */
  credit = windowBytes;
  #ended: HostError | null = null;
  #interrupt = (_error: HostError): void => {};
  #credited = (): void => {};

  hear(message: Upward): void {
    if (message.kind === "cancel") this.stop(fromWireError(message.error));
    else {
      this.credit += message.bytes;
      this.#credited();
    }
  }

  /** Ends the body, as does whatever breaks the source; what ends it first is what it has ended by. */
  stop(error: HostError): void {
    this.#ended ??= error;
    this.#interrupt(this.#ended);
  }

  /** `work`, unless the body is stopped first. Not Promise.race: it would leave a reaction behind for each piece. */
  unlessStopped<Value>(work: Promise<Value>): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      if (this.#ended !== null) reject(this.#ended);
      work.then(resolve, reject);
    });
  }

  /** Resolves when there is more credit. */
  more(): Promise<void> {
    return new Promise((resolve) => {
      this.#credited = resolve;
    });
  }
}

/**
 * The bytes that the other side of `port` sends. Errors with the sender's HostError, or with `CELL_LOST` where the
 * port closes before the end: a thread that dies in mid-body is never taken for the end of it. Cancelling the
 * stream stops the sender.
 */
export function receiveBody(port: MessagePort): ReadableStream<Uint8Array> {
  let open = true;
  /** Credit that the sender has and has not used yet. */
  let granted = windowBytes;
  const finish = (): void => {
    open = false;
    port.close();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        port.on("close", () => {
          if (open)
            controller.error(new HostError("CELL_LOST", "The worker ended in the middle of its response."));
          open = false;
        });
        port.on("message", (value: unknown) => {
          if (!open) return;
          const message = parseDownward(value);
          switch (message.kind) {
            case "piece":
              granted -= message.bytes.byteLength;
              controller.enqueue(message.bytes);
              break;
            case "end":
              finish();
              controller.close();
              break;
            case "error":
              finish();
              controller.error(fromWireError(message.error));
              break;
            default:
              unreachable(message);
          }
        });
      },
      pull(controller) {
        // What is unread and what may still arrive add up to the window; topped up in pieces, not byte by byte.
        const missing = (controller.desiredSize ?? 0) - granted;
        if (!open || missing < pieceBytes) return;
        granted += missing;
        post(port, { kind: "credit", bytes: missing });
      },
      cancel(reason) {
        if (!open) return;
        post(port, { kind: "cancel", error: toWireError(reason ?? new HostError("CANCELLED")) });
        finish();
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: windowBytes }),
  );
}

/** For an answer that nobody will read: the sender stops as if cancelled. */
export function discardBody(port: MessagePort): void {
  port.close();
}

function post(port: MessagePort, message: Downward | Upward, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function parseDownward(value: unknown): Downward {
  if (typeof value === "object" && value !== null && "kind" in value) {
    if (value.kind === "end") return { kind: "end" };
    if (value.kind === "piece" && "bytes" in value && value.bytes instanceof Uint8Array) {
      return { kind: "piece", bytes: value.bytes };
    }
    const error = value.kind === "error" && "error" in value ? parseWireError(value.error) : undefined;
    if (error !== undefined) return { kind: "error", error };
  }
  return { kind: "error", error: { code: "INTERNAL", message: "not a message of a body" } };
}

function parseUpward(value: unknown): Upward {
  if (typeof value === "object" && value !== null && "kind" in value) {
    if (value.kind === "credit" && "bytes" in value && typeof value.bytes === "number") {
      return { kind: "credit", bytes: value.bytes };
    }
    const error = value.kind === "cancel" && "error" in value ? parseWireError(value.error) : undefined;
    if (error !== undefined) return { kind: "cancel", error };
  }
  return { kind: "cancel", error: { code: "INTERNAL", message: "not a message of a body" } };
}
