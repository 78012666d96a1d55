/** Replies on their way to the front. */
import { MessagePort } from "node:worker_threads";
import { HostError, messageOf } from "../src/kernel/errors.ts";
import { discardBody } from "../src/protocol/body.ts";
import type { Answer, CellMessage, Reply } from "../src/protocol/messages.ts";
import { packReplies } from "../src/protocol/parcel.ts";
import { toWireError } from "../src/protocol/wire-error.ts";

export type Transfer = readonly (ArrayBuffer | MessagePort)[];

/** A request's reply, and what of it is moved to the other thread. */
export interface Outgoing {
  readonly reply: Reply<Answer>;
  readonly transfer: Transfer;
}

interface Numbered extends Outgoing {
  readonly number: number;
}

/** Sends what gathers in one turn of the event loop in one message, like `Lane` on the other side. */
export class Outbox {
  readonly #post: (message: CellMessage, transfer: Transfer) => void;
  #outgoing: Numbered[] = [];

  /** `post` throws where something of a message cannot be sent. */
  constructor(post: (message: CellMessage, transfer: Transfer) => void) {
    this.#post = post;
  }

  add(number: number, { reply, transfer }: Outgoing): void {
    this.#outgoing.push({ number, reply, transfer });
    if (this.#outgoing.length === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const all = this.#outgoing;
    this.#outgoing = [];
    try {
      this.#send(all);
    } catch {
      for (const each of all) this.#sendAlone(each);
    }
  }

  /** What a plugin put into one answer, such as a header that is no text, is not the others' fault. */
  #sendAlone(one: Numbered): void {
    try {
      this.#send([one]);
    } catch (error) {
      // The body of an answer that nobody will have: its sender would wait for credit for ever.
      for (const moved of one.transfer) if (moved instanceof MessagePort) discardBody(moved);
      const fault = new HostError("INTERNAL", `the answer cannot be sent: ${messageOf(error)}`);
      this.#send([{ number: one.number, reply: { ok: false, error: toWireError(fault) }, transfer: [] }]);
    }
  }

  #send(outgoing: readonly Numbered[]): void {
    this.#post(
      { kind: "replies", parcel: packReplies(outgoing) },
      outgoing.flatMap(({ transfer }) => transfer),
    );
  }
}
