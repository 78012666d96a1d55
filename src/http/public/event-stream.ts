/** A subscription over server-sent events, as in the protocol of graphql-sse: one connection for each operation. */
import type { ServerResponse } from "node:http";
import type { Sink } from "../../realtime/execution.ts";
import type { LiveResult } from "../../realtime/live-result.ts";
import type { Subscription } from "../../realtime/subscription.ts";
import type { HostError } from "../../shared/kernel/errors.ts";
import { renderFailure } from "../error-response.ts";
import type { Exchange } from "./exchange.ts";

const json = new Set(["application/json", "application/graphql-response+json", "application/*", "*/*"]);

/** Whether a client prefers server-sent events to a single answer; some offer them with every request. */
export function prefersEvents(accept: string | undefined): boolean {
  if (accept?.includes("text/event-stream") !== true) return false;
  let events = 0;
  let single = 0;
  for (const member of accept.split(",")) {
    const [type = "", ...parameters] = member.split(";");
    const weight = Number(parameters.find((each) => each.startsWith("q="))?.slice(2) ?? 1);
    // Of equal ones the first is preferred.
    if (type === "text/event-stream") events = Math.max(events, weight > single ? weight : 0);
    else if (json.has(type)) single = Math.max(single, weight);
  }
  return events > 0 && events >= single;
}

/** A stream whose head has been sent. It ends with its subscription, or when the client leaves. */
export class EventStream implements Sink {
  readonly #exchange: Exchange;
  readonly #outgoing: ServerResponse;
  readonly #pings: NodeJS.Timeout;
  readonly #bufferBytes: number;
  #subscription: Subscription | null = null;
  /** The newest result, while the client does not read. */
  #waiting: string | null = null;
  /** Whether a ping has found that nothing was read since the one before. */
  #isStuck = false;

  /** Throws `NO_CAPACITY` if there is no memory for an operation of `bytes`. */
  constructor(
    exchange: Exchange,
    { pingMs, bufferBytes }: { readonly pingMs: number; readonly bufferBytes: number },
    bytes: number,
  ) {
    const { outgoing, requestId } = exchange;
    this.#bufferBytes = slowFactor * bufferBytes;
    this.#exchange = exchange;
    this.#outgoing = outgoing;
    exchange.beginStream(bytes);
    outgoing.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      "x-content-type-options": "nosniff",
      "x-request-id": requestId,
      connection: "close",
    });
    // Proxies and clients see the head at once.
    outgoing.write(":\n\n");
    this.#pings = setInterval(() => this.#ping(), pingMs);
    outgoing.on("drain", () => this.#drained());
    outgoing.on("close", () => {
      clearInterval(this.#pings);
      this.#subscription?.end();
    });
  }

  /** What the stream ends when its client leaves. */
  follow(subscription: Subscription): void {
    this.#subscription = subscription;
    if (this.#outgoing.destroyed) subscription.end();
  }

  next(body: string): void {
    if (this.#outgoing.writableNeedDrain) {
      this.#waiting = body;
      this.#exchange.countUnsent(body.length);
    } else this.#write(`event: next\ndata: ${body}\n\n`);
  }

  goesOn(): void {}

  push(body: string): Promise<void> {
    if (this.#outgoing.writableLength > this.#bufferBytes) {
      // Without "complete": the client subscribes anew, and knows that it has missed something.
      this.#outgoing.destroy();
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#outgoing.write(`event: next\ndata: ${body}\n\n`, () => resolve());
      this.#exchange.countUnsent();
    });
  }

  fail(error: HostError | LiveResult): void {
    const body =
      "body" in error ? error.body : renderFailure(this.#exchange.fail(error), this.#exchange.requestId).body;
    this.#waiting = null;
    this.#end(`event: next\ndata: ${body}\n\nevent: complete\ndata:\n\n`);
  }

  complete(): void {
    const last = this.#waiting === null ? "" : `event: next\ndata: ${this.#waiting}\n\n`;
    this.#end(`${last}event: complete\ndata:\n\n`);
  }

  /** Without "complete", so that the client tries again. */
  cut(): void {
    this.#end(":\n\n");
  }

  #write(text: string): void {
    this.#outgoing.write(text);
    this.#exchange.countUnsent();
  }

  #end(text: string): void {
    clearInterval(this.#pings);
    this.#outgoing.end(text);
    // A client that does not read would keep the connection.
    const timer = setTimeout(() => this.#outgoing.destroy(), endingMs);
    this.#outgoing.once("close", () => clearTimeout(timer));
  }

  #drained(): void {
    this.#isStuck = false;
    this.#exchange.sent();
    const body = this.#waiting;
    this.#waiting = null;
    if (body !== null) this.next(body);
  }

  #ping(): void {
    if (this.#outgoing.writableNeedDrain) {
      if (this.#isStuck) this.#outgoing.destroy();
      this.#isStuck = true;
      return;
    }
    this.#outgoing.write(":\n\n");
    this.#subscription?.check();
  }
}

const endingMs = 2_000;
/** A run may answer with several results, which are written at once. */
const slowFactor = 4;
