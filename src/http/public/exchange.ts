/** One request and its answer: the deadline over both, the client that may go away, and what is observed at the end. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { CancellationSource, type CancellationToken } from "../../shared/kernel/cancellation.ts";
import { type ErrorCode, HostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import { readRequestId } from "../request-head.ts";

export interface ExchangeEnd {
  readonly status: number;
  readonly code: ErrorCode | undefined;
  readonly durationMs: number;
}

export class Exchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly requestId: string;
  /** Set as soon as it is known, for what is observed of the request. */
  tenant: TenantId | undefined;
  /** The error that the client was, or would have been, told of. */
  error: HostError | undefined;
  readonly #stop = new CancellationSource();
  #interrupt = (_reason: HostError): void => {};

  /** `onEnd` is called once, when the answer has been written or the connection is gone. */
  constructor(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    timeoutMs: number,
    onEnd: (end: ExchangeEnd, exchange: Exchange) => void,
  ) {
    this.incoming = incoming;
    this.outgoing = outgoing;
    this.requestId = readRequestId(incoming);
    const startedMs = performance.now();
    const timer = setTimeout(() => {
      const late = new HostError("DEADLINE");
      this.#end(late);
      // Too late for a 408: a client that reads too slowly, or a stream that goes on too long.
      if (outgoing.headersSent) outgoing.destroy();
    }, timeoutMs);
    outgoing.on("close", () => {
      clearTimeout(timer);
      if (!outgoing.writableFinished) this.#end(new HostError("CANCELLED"));
      onEnd(
        {
          status: outgoing.headersSent ? outgoing.statusCode : (this.error?.status ?? outgoing.statusCode),
          code: this.error?.code,
          durationMs: performance.now() - startedMs,
        },
        this,
      );
    });
  }

  /** Aborts when the client goes away or the deadline passes; the reason is a HostError `CANCELLED` or `DEADLINE`. */
  get signal(): CancellationToken {
    return this.#stop;
  }

  /** What `work` gives, or the signal's reason as soon as it aborts; `drop` is told of a value that comes too late. */
  unlessAborted<Value>(work: Promise<Value>, drop: (value: Value) => void): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      if (this.#stop.aborted) reject(this.error);
      work.then((value) => (this.#stop.aborted ? drop(value) : resolve(value)), reject);
    });
  }

  #end(reason: HostError): void {
    if (this.#stop.aborted) return;
    this.error ??= reason;
    this.#stop.abort(reason);
    this.#interrupt(reason);
  }
}
