/** One request and its answer: the deadline for both, the client that may leave, and the limits they count against. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Observation, Observe } from "../../observability/observation.ts";
import { CancellationSource, type CancellationToken } from "../../shared/kernel/cancellation.ts";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { ClientBacklog, Wait } from "../client-backlog.ts";
import type { Peer } from "../connection.ts";
import { networkOf } from "../network.ts";
import type { Proxies } from "../proxies.ts";
import { readRequestId } from "../request-head.ts";
import { type ConcurrencyLimit, ConcurrencySlot } from "./tenant-concurrency.ts";

/** What all exchanges of a listener share. */
export interface ExchangeDeps {
  readonly requestTimeoutMs: number;
  readonly tenants: ConcurrencyLimit<TenantId>;
  /** For clients behind trusted proxies; all others are limited by their connections. */
  readonly clients: ConcurrencyLimit<string>;
  readonly backlog: ClientBacklog;
  readonly proxies: Proxies;
  readonly observe: Observe;
}

/** Unsent answers up to this size are not worth counting. */
const smallBytes = 64 * 1024;
/** A stream's operation up to this size is not worth counting either. */
export const smallOperation = 16 * 1024;

const ignore = (): void => {};

/** All clients for whom a proxy reports no valid address count as one. */
const unknownClient = "unknown";

/** The name under which a client's share is counted; `forwardedFor` as in an exchange. */
export const clientOf = (peer: Peer, forwardedFor: string | null | undefined): string =>
  forwardedFor === undefined ? peer.address : networkOf(forwardedFor ?? unknownClient);

export class Exchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly requestId: string;
  /** The client's address as its proxy reports it, null if that is no address; undefined if the connection's address is the client's. */
  readonly forwardedFor: string | null | undefined;
  /** Where the bytes of the request's body are counted until the exchange ends. */
  readonly bodyWait: Wait;
  /** The error that the client was told of, or would have been if it had not left. */
  error: HostError | undefined;
  readonly #observe: Observe;
  readonly #backlog: ClientBacklog;
  readonly #peer: Peer;
  readonly #client: string;
  readonly #clientSlot: ConcurrencySlot<string> | null;
  readonly #tenantSlot: ConcurrencySlot<TenantId>;
  readonly #cancellation = new CancellationSource();
  readonly #startedMs = performance.now();
  readonly #deadline: NodeJS.Timeout;
  #answerWait: Wait | undefined;
  #isStream = false;
  #tenant: TenantId | undefined;
  #interrupt: (reason: HostError) => void = ignore;

  /** Ends by itself, when the answer has been written or the connection is gone; `request.done` is observed then. */
  constructor(incoming: IncomingMessage, outgoing: ServerResponse, peer: Peer, deps: ExchangeDeps) {
    this.incoming = incoming;
    this.outgoing = outgoing;
    this.requestId = readRequestId(incoming);
    this.#observe = deps.observe;
    this.#backlog = deps.backlog;
    this.#peer = peer;
    this.#tenantSlot = new ConcurrencySlot(deps.tenants);
    this.#clientSlot = peer.isProxy ? new ConcurrencySlot(deps.clients) : null;
    this.forwardedFor = peer.isProxy ? deps.proxies.clientOf(incoming) : undefined;
    this.#client = clientOf(peer, this.forwardedFor);
    this.bodyWait = deps.backlog.wait(this.#client);
    this.#deadline = setTimeout(() => this.#expire(), deps.requestTimeoutMs);
    outgoing.on("close", () => {
      clearTimeout(this.#deadline);
      this.#close();
    });
  }

  /** Aborts when the client leaves or the deadline passes; the reason is a HostError, `CANCELLED` or `DEADLINE`. */
  get signal(): CancellationToken {
    return this.#cancellation;
  }

  /** Counts the request against its client's limit; throws `ADDRESS_BUSY` if that is reached. */
  admitClient(): void {
    this.#clientSlot?.acquire(this.#client);
  }

  /** The request has arrived completely. */
  received(): void {
    this.#peer.received();
  }

  /**
   * Counts the request against its tenant's limit, and no longer against that of an earlier tenant. Throws `TENANT_BUSY` if the limit
   * is reached, and the signal's reason if it has aborted.
   */
  routed(tenant: TenantId): void {
    this.#tenant = tenant;
    this.#cancellation.throwIfAborted();
    this.#tenantSlot.acquire(tenant);
  }

  /** Resolves as `work` does; rejects with a HostError, at once when the signal aborts. `drop` is given a value that comes after that. */
  unlessAborted<Value>(work: Promise<Value>, drop: (value: Value) => void): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      if (this.#cancellation.aborted) reject(this.error);
      work.then(
        (value) => (this.#cancellation.aborted ? drop(value) : resolve(value)),
        (error: unknown) => reject(toHostError(error)),
      );
    });
  }

  /**
   * The answer goes on for as long as its client and the host like; its time says nothing about requests. Its operation of `bytes` is kept
   * as long, but may be given up.
   */
  beginStream(bytes: number): void {
    this.bodyWait.leave();
    if (bytes > smallOperation && !this.bodyWait.add(bytes, () => this.outgoing.destroy())) {
      throw new HostError("NO_CAPACITY");
    }
    clearTimeout(this.#deadline);
    this.#isStream = true;
  }

  /** Everything that was counted as unsent has been sent. */
  sent(): void {
    this.#answerWait?.leave();
  }

  /** Counts what the kernel has not yet taken of the answer, and `waiting` bytes that are to follow, until the exchange ends. */
  countUnsent(waiting = 0): void {
    const bytes = this.outgoing.writableLength + waiting;
    if (bytes <= smallBytes) return;
    this.#answerWait?.leave();
    this.#answerWait = this.#backlog.wait(this.#client);
    this.#answerWait.add(bytes, () => this.outgoing.destroy());
  }

  /**
   * Records why the request failed and returns what the client is to be told. If the deadline has passed or the client has left, that
   * is the reason: whatever `thrown` is, it was a consequence.
   */
  fail(thrown: unknown): HostError {
    this.error ??= toHostError(thrown);
    const { error, requestId } = this;
    const tenant = this.#tenant;
    if (error.code !== "CANCELLED") {
      this.#observe({
        kind: "request.failed",
        requestId,
        code: error.code,
        ...(error.reason === undefined ? {} : { reason: error.reason }),
        error,
        ...(tenant === undefined ? {} : { tenant }),
      });
    }
    return error;
  }

  #expire(): void {
    this.#abort(new HostError("DEADLINE"));
    // Too late for a 408: the client reads too slowly, or a stream takes too long.
    if (this.outgoing.headersSent) this.outgoing.destroy();
  }

  #abort(reason: HostError): void {
    if (this.#cancellation.aborted) return;
    this.error ??= reason;
    this.#cancellation.abort(reason);
    this.#interrupt(reason);
  }

  #close(): void {
    const { outgoing, requestId } = this;
    if (!outgoing.writableFinished) this.#abort(new HostError("CANCELLED"));
    this.#peer.answered();
    this.bodyWait.leave();
    this.#answerWait?.leave();
    this.#tenantSlot.release();
    this.#clientSlot?.release();
    if (this.#isStream) return;
    const done: Extract<Observation, { kind: "request.done" }> = {
      kind: "request.done",
      status: outgoing.headersSent ? outgoing.statusCode : (this.error?.status ?? outgoing.statusCode),
      durationMs: performance.now() - this.#startedMs,
      requestId,
    };
    if (this.error !== undefined) done.code = this.error.code;
    if (this.#tenant !== undefined) done.tenant = this.#tenant;
    this.#observe(done);
  }
}
