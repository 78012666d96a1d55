/** The port between a cell and its thread: requests go there, and answers come back. */
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

/** Who waits for an answer. */
export interface Asker {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: HostError) => void;
}

/**
 * Beside Piscina, whose thread it is and which carries all else: of `{ __typename }` its `run`, and a message with a wake-up for each
 * request, took a third of the front's time. What comes up in one turn of the event loop goes in one message here, and an idle loop's
 * turn ends at once.
 */
export class Channel {
  readonly #port: MessagePort;
  readonly #hear: (message: CellMessage) => void;
  /** By number. */
  readonly #asked = new Map<number, Asker>();
  #number = 0;
  #tasks: LaneTask[] = [];

  /** `hear` is told of all that the thread says, before answers are handed on; `heard` when they have been. */
  constructor(port: MessagePort, hear: (message: CellMessage) => void, heard: () => void) {
    this.#port = port;
    this.#hear = (message) => {
      hear(message);
      if (message.kind === "replies") this.#answer(message.encoded);
      heard();
    };
    port.on("message", this.#hear);
    port.unref();
  }

  tell(message: ControlMessage): void {
    this.#port.postMessage(message);
  }

  /** Sends `task`, to be run interleaved with others where `together`, and returns its number. `asker` is told the answer, or the thread's error, or what `end` is given. */
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

  /** To be called when the thread is gone: whoever still waits for an answer gets `error`. */
  end(error: HostError): void {
    // What it said before it ended is true all the same.
    for (let last = receiveMessageOnPort(this.#port); last; last = receiveMessageOnPort(this.#port)) {
      this.#hear(last.message);
    }
    this.#port.close();
    for (const number of [...this.#asked.keys()]) this.#settle(number)?.reject(error);
  }

  #send(task: LaneTask): void {
    this.#tasks.push(task);
    // Behind all that the loop finds ready now, and before it waits for anything.
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

  /** What cannot be sent of one request is not the others' fault. */
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
