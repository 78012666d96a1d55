/** One WebSocket with the protocol of graphql-ws, `graphql-transport-ws`. */
import type { WebSocket } from "ws";
import type { Sink } from "../../realtime/execution.ts";
import type { Operation } from "../../realtime/live-queries.ts";
import { patiently } from "../../realtime/patience.ts";
import type { Subscription } from "../../realtime/subscription.ts";
import { HostError, toHostError } from "../../shared/kernel/errors.ts";
import type { RequestFacts } from "../../tenants/router.ts";
import type { Wait } from "../client-backlog.ts";
import { renderFailure } from "../error-response.ts";
import { smallOperation } from "./exchange.ts";
import type { SubscribeRequest, Subscriptions } from "./subscriptions.ts";
import {
  closeCodes,
  errorMessage,
  type Message,
  nextMessage,
  parseMessage,
  refusalCode,
} from "./web-socket-messages.ts";

/** A reason may have 123 bytes. */
const maxReason = 120;
const terminateMs = 2_000;
/** A run may answer with several results, which are sent at once. */
const slowFactor = 4;
/** Fewer bytes of unread results are not worth counting. */
const smallBytes = 64 * 1024;

type SocketRequest = Omit<SubscribeRequest, "body" | "queriesOnly">;

export interface SocketParts {
  readonly subscriptions: Subscriptions;
  /** Makes a wait of the client in the backlog. */
  readonly wait: () => Wait;
  /** Called when the client has introduced itself and is admitted. */
  readonly onReady: () => void;
}

/** A subscription of the socket. */
interface Entry extends Sink {
  subscription: Subscription | null;
  /** What a long operation takes, which is kept for further runs. */
  kept: Wait | null;
  /** Whether its client may send it again: what has had no result and does not go on may be a mutation. */
  isRepeatable: boolean;
  /** Whether a message of it has not been sent yet, and what is to follow it. */
  isSending: boolean;
  waiting: string | null;
}

export class SubscriberSocket {
  readonly #socket: WebSocket;
  readonly #request: SocketRequest;
  readonly #subscriptions: Subscriptions;
  readonly #parts: SocketParts;
  /** What the client has not read. */
  readonly #unsent: Wait;
  readonly #entries = new Map<string, Entry>();
  readonly #timers: NodeJS.Timeout[];
  #facts: RequestFacts;
  #phase: "new" | "starting" | "ready" = "new";
  #isAlive = true;
  #isStuck = false;
  /** How it is to be closed when the operations under way have ended. */
  #ending: { readonly code: number; readonly reason: string } | null = null;

  constructor(socket: WebSocket, request: SocketRequest, parts: SocketParts) {
    const { subscriptions, wait } = parts;
    this.#socket = socket;
    this.#request = request;
    this.#facts = request.facts;
    this.#subscriptions = subscriptions;
    this.#parts = parts;
    this.#unsent = wait();
    const init = setTimeout(() => {
      if (this.#phase !== "ready") this.close(closeCodes.initTimeout, "Connection initialisation timeout");
    }, subscriptions.initTimeoutMs);
    this.#timers = [init, setInterval(() => void this.#ping(), subscriptions.pingMs)];
    socket.on("message", (data, isBinary) => this.#receive(String(data), isBinary));
    socket.on("pong", () => {
      this.#isAlive = true;
    });
    // "close" follows.
    socket.on("error", () => {});
    socket.on("close", () => this.#closed());
  }

  /**
   * Closes the socket when the operations that may be mutations have ended, in `limitMs` at most: cut off in the middle of one,
   * its client would send it again. Nothing new begins, and live queries end.
   */
  drain(limitMs: number, code: number = closeCodes.goingAway, reason = "SHUTTING_DOWN"): void {
    if (this.#ending === null) {
      this.#ending = { code, reason };
      this.#timers.push(setTimeout(() => this.close(code, reason), limitMs));
      for (const [id, entry] of [...this.#entries]) if (entry.isRepeatable) this.#remove(id, entry);
    }
    this.#closeIfDrained();
  }

  #closeIfDrained(): void {
    if (this.#ending === null || !this.#entries.values().every(({ isRepeatable }) => isRepeatable)) return;
    this.close(this.#ending.code, this.#ending.reason);
  }

  /** Ends a subscription of which its client hears nothing more. */
  #remove(id: string, { subscription, kept }: Entry): void {
    this.#entries.delete(id);
    kept?.leave();
    subscription?.end();
  }

  /** Closes the socket, if need be without waiting for its client. */
  close(code: number = closeCodes.goingAway, reason = "SHUTTING_DOWN"): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#closed();
    this.#socket.close(code, reason.slice(0, maxReason));
    const timer = setTimeout(() => this.#socket.terminate(), terminateMs);
    this.#socket.once("close", () => clearTimeout(timer));
  }

  #closed(): void {
    for (const each of this.#timers) clearTimeout(each);
    this.#unsent.leave();
    for (const [id, entry] of [...this.#entries]) this.#remove(id, entry);
  }

  #receive(text: string, isBinary: boolean): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    const parsed = isBinary ? null : parseMessage(text);
    if (parsed === null) this.close(closeCodes.badRequest, "Invalid message");
    else this.#handle(parsed);
  }

  #handle(received: Message): void {
    switch (received.type) {
      case "connection_init":
        if (this.#phase === "new") void this.#init(received.payload ?? {});
        else this.close(closeCodes.initTwice, "Too many initialisation requests");
        return;
      case "ping":
        this.#send({ type: "pong" });
        return;
      case "pong":
        return;
      case "subscribe":
        if (this.#phase === "ready") void this.#subscribe(received.id, received.payload);
        else this.close(closeCodes.unauthorized, "Unauthorized");
        return;
      case "complete": {
        const entry = this.#entries.get(received.id);
        if (entry !== undefined) this.#remove(received.id, entry);
        this.#closeIfDrained();
        return;
      }
      default:
        received satisfies never;
    }
  }

  /** A token in the payload takes the place of the one in the head: browsers can send only that. */
  async #init(payload: Readonly<Record<string, unknown>>): Promise<void> {
    this.#phase = "starting";
    const given = Object.entries(payload).find(([name]) => name.toLowerCase() === "authorization")?.[1];
    const { facts } = this.#request;
    if (typeof given === "string") {
      this.#facts = {
        ...facts,
        header: (name) => (/^authorization$/i.test(name) ? given : facts.header(name)),
      };
    }
    if (!(await this.#isAdmitted())) return;
    this.#phase = "ready";
    this.#parts.onReady();
    this.#send({ type: "connection_ack" });
  }

  /** Whether the client may stay; closes the socket if not. While that cannot be told it stays, once it is ready. */
  async #isAdmitted(): Promise<boolean> {
    try {
      await this.#subscriptions.admit(this.#facts, false);
      return this.#socket.readyState === this.#socket.OPEN;
    } catch (thrown) {
      const error = toHostError(thrown);
      if (this.#phase !== "ready" || !error.retryable) this.#refuse(error);
      return false;
    }
  }

  #refuse(error: HostError): void {
    this.drain(this.#subscriptions.requestTimeoutMs, refusalCode(error), error.code);
  }

  async #subscribe(id: string, payload: object): Promise<void> {
    // The client subscribes elsewhere.
    if (this.#ending !== null) return;
    if (this.#entries.has(id)) {
      this.close(closeCodes.idInUse, `Subscriber for ${id} already exists`);
      return;
    }
    const entry = this.#entry(id);
    this.#entries.set(id, entry);
    try {
      if (this.#entries.size > this.#subscriptions.connectionSubscriptions) {
        throw new HostError("TENANT_BUSY");
      }
      const body = JSON.stringify(payload);
      this.#keep(entry, body.length);
      const operation = await this.#open(entry, id, body);
      // The client has given it up.
      if (operation === null || this.#entries.get(id) !== entry) return;
      entry.subscription = this.#subscriptions.subscribe(operation, entry);
    } catch (thrown) {
      if (this.#entries.get(id) === entry) entry.fail(toHostError(thrown));
    }
  }

  /** The operation of an entry; null if it cannot be told for now whose it is, and then the client has been told to try again. */
  async #open(entry: Entry, id: string, body: string): Promise<Operation | null> {
    const open = () => this.#subscriptions.open({ ...this.#request, facts: this.#facts, body });
    try {
      return await patiently(open, {
        forMs: this.#subscriptions.requestTimeoutMs,
        isOver: () => this.#ending !== null || this.#entries.get(id) !== entry,
      });
    } catch (thrown) {
      const error = toHostError(thrown);
      if (!error.retryable) throw error;
      if (this.#entries.get(id) === entry) entry.cut(error);
      return null;
    }
  }

  /** Counts a long operation for as long as it is kept. */
  #keep(entry: Entry, bytes: number): void {
    if (bytes <= smallOperation) return;
    entry.kept = this.#parts.wait();
    if (!entry.kept.add(bytes, () => this.#socket.terminate())) throw new HostError("NO_CAPACITY");
  }

  #entry(id: string): Entry {
    const name = JSON.stringify(id);
    const over = (text: string): void => {
      if (this.#entries.get(id) !== entry) return;
      if (entry.waiting !== null) this.#write(nextMessage(name, entry.waiting));
      this.#remove(id, entry);
      this.#write(text);
      this.#closeIfDrained();
    };
    const entry: Entry = {
      subscription: null,
      kept: null,
      isRepeatable: false,
      isSending: false,
      waiting: null,
      next: (body) => {
        if (this.#entries.get(id) !== entry) return;
        entry.isRepeatable = true;
        this.#sendResult(entry, name, body);
        // What is not live is complete in the same turn.
        if (this.#ending !== null) setImmediate(() => this.#closeIfDrained());
      },
      goesOn: () => {
        entry.isRepeatable = true;
        this.#closeIfDrained();
      },
      push: (body) => {
        if (this.#entries.get(id) !== entry) return Promise.resolve();
        entry.isRepeatable = true;
        return this.#push(nextMessage(name, body));
      },
      fail: (error) => {
        if ("body" in error) over(errorMessage(name, error.body));
        else if (error.status === 401) {
          if (this.#entries.get(id) === entry) this.#remove(id, entry);
          this.#refuse(error);
        } else over(errorMessage(name, renderFailure(error, this.#request.requestId).body));
      },
      complete: () => over(`{"id":${name},"type":"complete"}`),
      cut: (reason) => {
        if (this.#entries.get(id) === entry) this.#remove(id, entry);
        const code = reason instanceof HostError ? closeCodes.tryAgain : closeCodes.restart;
        const why = reason instanceof HostError ? reason.code : (reason ?? "SCHEMA_CHANGED");
        this.drain(this.#subscriptions.requestTimeoutMs, code, why);
      },
    };
    return entry;
  }

  /** Only the newest result waits for a client that does not read. */
  #sendResult(entry: Entry, name: string, body: string): void {
    if (entry.isSending || this.#socket.bufferedAmount > this.#subscriptions.bufferBytes) {
      entry.waiting = body;
      this.#countUnsent();
      return;
    }
    entry.isSending = true;
    this.#socket.send(nextMessage(name, body), () => {
      entry.isSending = false;
      this.#isStuck = false;
      for (const [id, each] of this.#entries) this.#sendWaiting(each, JSON.stringify(id));
      this.#countUnsent();
    });
    this.#countUnsent();
  }

  /** What the kernel has not taken yet, and the results that wait behind it. */
  #countUnsent(): void {
    const { bufferedAmount, readyState, OPEN } = this.#socket;
    if ((this.#unsent.bytes === 0 && bufferedAmount <= smallBytes) || readyState !== OPEN) return;
    this.#unsent.leave();
    let bytes = bufferedAmount;
    for (const { waiting } of this.#entries.values()) bytes += waiting?.length ?? 0;
    if (bytes > smallBytes) this.#unsent.add(bytes, () => this.#socket.terminate());
  }

  #sendWaiting(entry: Entry, name: string): void {
    const body = entry.waiting;
    if (body === null || this.#socket.readyState !== this.#socket.OPEN) return;
    entry.waiting = null;
    this.#sendResult(entry, name, body);
  }

  #send(value: object): void {
    this.#write(JSON.stringify(value));
  }

  /** Resolves once the message has been sent, or the socket is closed. A client that does not read is cut off, and subscribes anew. */
  #push(text: string): Promise<void> {
    if (this.#socket.readyState !== this.#socket.OPEN) return Promise.resolve();
    if (this.#socket.bufferedAmount > slowFactor * this.#subscriptions.bufferBytes) {
      this.drain(this.#subscriptions.requestTimeoutMs, closeCodes.tryAgain, "TOO_SLOW");
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#socket.send(text, () => {
        this.#isStuck = false;
        this.#countUnsent();
        resolve();
      });
      this.#countUnsent();
    });
  }

  /** Answers to what a client sends without reading them. Once the socket is about to be closed, little more is to be sent. */
  #write(text: string): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    if (this.#ending === null && this.#socket.bufferedAmount > 2 * this.#subscriptions.bufferBytes) {
      this.close(closeCodes.tryAgain, "TOO_SLOW");
    } else this.#socket.send(text);
  }

  async #ping(): Promise<void> {
    if (!this.#isAlive) {
      this.#socket.terminate();
      return;
    }
    const isStuck = this.#socket.bufferedAmount > 0;
    if (isStuck && this.#isStuck) {
      this.close(closeCodes.tryAgain, "TOO_SLOW");
      return;
    }
    this.#isStuck = isStuck;
    this.#isAlive = false;
    this.#socket.ping();
    if (this.#phase !== "ready" || this.#ending !== null || !(await this.#isAdmitted())) return;
    for (const { subscription } of this.#entries.values()) subscription?.check();
  }
}
