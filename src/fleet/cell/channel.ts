/** The port between a cell and its thread that carries requests and answers. */
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { type HostError, toHostError } from "../../shared/kernel/errors.ts";
import { decodeReplies, encodeTasks } from "../../shared/protocol/codec.ts";
import type {
  Answer,
  CellMessage,
  ControlMessage,
  Encoded,
  LaneTask,
  RequestTask,
} from "../../shared/protocol/messages.ts";
import { fromWireError } from "../../shared/protocol/wire-error.ts";

/** Receives the answer to one request. */
export interface Asker {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: HostError) => void;
}

/**
 * Runs beside Piscina, which owns the thread and carries everything else: for `{ __typename }`, Piscina's
 * `run` and one message with a wake-up per request took a third of the front's time. Here, everything that
 * comes up in one turn of the event loop goes in one message, and an idle loop's turn ends at once.
 */
export class Channel {
  readonly #port: MessagePort;
  readonly #receive: (message: CellMessage) => void;
  /** Requests without an answer, by number. */
  readonly #asked = new Map<number, Asker>();
  #number = 0;
  #tasks: LaneTask[] = [];

  /** `receive` gets every message of the thread before its answers are delivered; `received` is called after that. */
  constructor(port: MessagePort, receive: (message: CellMessage) => void, received: () => void) {
    this.#port = port;
    this.#receive = (message) => {
      receive(message);
      if (message.kind === "replies") this.#answer(message.encoded);
      received();
    };
    port.on("message", this.#receive);
    port.unref();
  }

  tell(message: ControlMessage): void {
    this.#port.postMessage(message);
  }

  /**
   * Sends `task`, to be run interleaved with others if `together`, and returns its number. `asker` receives
   * the answer, the thread's error, or the error given to `end`.
   */
  ask(task: RequestTask, asker: Asker, together = false): number {
    this.#number += 1;
    this.#asked.set(this.#number, asker);
    this.#send({ kind: "numbered", number: this.#number, together, task });
    return this.#number;
  }

  cancel(slot: number): void {
    this.#send({ kind: "cancel", slot });
  }

  #answer(encoded: Encoded): void {
    for (const { number, reply } of decodeReplies(encoded)) {
      const asked = this.#settle(number);
      if (reply.ok) asked?.resolve(reply.value);
      else asked?.reject(fromWireError(reply.error));
    }
  }

  /** Call when the thread is gone: rejects all unanswered requests with `error`. */
  end(error: HostError): void {
    // Messages that the thread sent before it ended are still valid.
    for (let last = receiveMessageOnPort(this.#port); last; last = receiveMessageOnPort(this.#port)) {
      this.#receive(last.message);
    }
    this.#port.close();
    for (const number of [...this.#asked.keys()]) this.#settle(number)?.reject(error);
  }

  #send(task: LaneTask): void {
    this.#tasks.push(task);
    // setImmediate runs after everything that the loop finds ready now, and before it waits again.
    if (this.#tasks.length === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const tasks = this.#tasks;
    this.#tasks = [];
    try {
      this.tell({ kind: "tasks", encoded: encodeTasks(tasks) });
    } catch {
      for (const task of tasks) this.#sendAlone(task);
    }
  }

  /** A request that cannot be serialized must not fail the others. */
  #sendAlone(task: LaneTask): void {
    try {
      this.tell({ kind: "tasks", encoded: encodeTasks([task]) });
    } catch (error) {
      if (task.kind === "numbered") this.#settle(task.number)?.reject(toHostError(error));
    }
  }

  #settle(number: number): Asker | undefined {
    const asked = this.#asked.get(number);
    this.#asked.delete(number);
    return asked;
  }
}
