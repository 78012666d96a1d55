/** Replies on their way to the front. */
import { MessagePort } from "node:worker_threads";
import { HostError, messageOf } from "../src/shared/kernel/errors.ts";
import { discardBody } from "../src/shared/protocol/body-stream.ts";
import { encodeReplies } from "../src/shared/protocol/codec.ts";
import type { Answer, BusyTimes, CellMessage, Reply } from "../src/shared/protocol/messages.ts";
import { toWireError } from "../src/shared/protocol/wire-error.ts";

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
export class ReplyBatcher {
  readonly #post: (message: CellMessage, transfer: Transfer) => void;
  readonly #busy: () => BusyTimes;
  #outgoing: Numbered[] = [];

  /** `post` throws where something of a message cannot be sent; `busy` gives what each tenant took of the thread, which goes along. */
  constructor(post: (message: CellMessage, transfer: Transfer) => void, busy: () => BusyTimes) {
    this.#post = post;
    this.#busy = busy;
  }

  add(number: number, { reply, transfer }: Outgoing): void {
    this.#outgoing.push({ number, reply, transfer });
    if (this.#outgoing.length === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const all = this.#outgoing;
    this.#outgoing = [];
    const busy = this.#busy();
    try {
      this.#send(all, busy);
    } catch {
      for (const [index, each] of all.entries()) this.#sendAlone(each, index === 0 ? busy : []);
    }
  }

  /** What a plugin put into one answer, such as a header that is no text, is not the others' fault. */
  #sendAlone(one: Numbered, busy: BusyTimes): void {
    try {
      this.#send([one], busy);
    } catch (error) {
      // The body of an answer that nobody will have: its sender would wait for credit for ever.
      for (const moved of one.transfer) if (moved instanceof MessagePort) discardBody(moved);
      const fault = new HostError("INTERNAL", `the answer cannot be sent: ${messageOf(error)}`);
      this.#send(
        [{ number: one.number, reply: { ok: false, error: toWireError(fault) }, transfer: [] }],
        busy,
      );
    }
  }

  #send(outgoing: readonly Numbered[], busy: BusyTimes): void {
    this.#post(
      { kind: "replies", encoded: encodeReplies(outgoing), busy },
      outgoing.flatMap(({ transfer }) => transfer),
    );
  }
}
