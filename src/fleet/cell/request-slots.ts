/** The places of a cell's requests, and for each the byte that its thread sets before it commits. */
import { HostError } from "../../shared/kernel/errors.ts";

export class Slots {
  /** Shared with the thread: what it wrote before it died is there to be read, in whatever order its messages came. */
  readonly ledger: SharedArrayBuffer;
  readonly #marks: Int8Array;
  readonly #free: number[];
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
    this.ledger = new SharedArrayBuffer(count);
    this.#marks = new Int8Array(this.ledger);
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index);
  }

  /** Places of requests that are not over. */
  get taken(): number {
    return this.#count - this.#free.length;
  }

  /** A free place, unmarked; throws `NO_CAPACITY` where there is none. */
  acquire(): number {
    const slot = this.#free.pop();
    if (slot === undefined) throw new HostError("NO_CAPACITY", "too many requests in one cell");
    Atomics.store(this.#marks, slot, 0);
    return slot;
  }

  release(slot: number): void {
    this.#free.push(slot);
  }

  marked(slot: number): boolean {
    return Atomics.load(this.#marks, slot) === 1;
  }
}
