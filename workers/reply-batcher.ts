/** Sends replies to the front. */
import { MessagePort } from "node:worker_threads";
import { HostError, messageOf } from "../src/shared/kernel/errors.ts";
import { discardBody } from "../src/shared/protocol/body-stream.ts";
import { encodeReplies } from "../src/shared/protocol/codec.ts";
import type { Answer, BusyTimes, CellMessage, Reply } from "../src/shared/protocol/messages.ts";
import { toWireError } from "../src/shared/protocol/wire-error.ts";

export type Transfer = readonly (ArrayBuffer | MessagePort)[];

/** A request's reply, and the parts of it that are moved to the other thread. */
export interface Outgoing {
  readonly reply: Reply<Answer>;
  readonly transfer: Transfer;
}

interface Numbered extends Outgoing {
  readonly number: number;
}

/** Sends the replies of one turn of the event loop in one message, as `Channel` does on the other side. */
export class ReplyBatcher {
  readonly #post: (message: CellMessage, transfer: Transfer) => void;
  readonly #busy: () => BusyTimes;
  #outgoing: Numbered[] = [];

  /** `post` throws if part of a message cannot be sent; `busy` returns each tenant's time on the thread, which is sent along. */
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

  /**
   * Sends one reply by itself: an unsendable value that a plugin put into one answer, such as a header that is no text, must not
   * fail the others.
   */
  #sendAlone(one: Numbered, busy: BusyTimes): void {
    try {
      this.#send([one], busy);
    } catch (error) {
      // Nobody will read this answer's body; undiscarded, its sender would wait for credit for ever.
      for (const moved of one.transfer) if (moved instanceof MessagePort) discardBody(moved);
      const fault = new HostError("INTERNAL", `the response cannot be sent: ${messageOf(error)}`);
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
