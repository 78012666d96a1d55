/** The request slots of a cell; for each, a byte that the thread sets before it commits. */
import { HostError } from "../../shared/kernel/errors.ts";

export class Slots {
  /** Shared with the thread: what it wrote before it died can be read, in whatever order its messages arrived. */
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

  /** Number of slots in use. */
  get taken(): number {
    return this.#count - this.#free.length;
  }

  /** Takes a free slot and clears its mark; throws `NO_CAPACITY` if there is none. */
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
