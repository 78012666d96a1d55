/** The places of a cell's requests, and for each the byte that its thread sets before it commits. */
import { HostError } from "../kernel/errors.ts";

export class Slots {
  /** Shared with the thread: what it wrote before it died is there to be read, in whatever order its messages came. */
  readonly ledger: SharedArrayBuffer;
  readonly #marks: Int8Array;
  readonly #free: number[];
  readonly #count: number;
  readonly #cancelled = new Set<number>();
  /** Places that are over but not free yet, by the ping that is sent behind their cancel. */
  readonly #held = new Map<number, number>();
  #pings = 0;

  constructor(count: number) {
    this.#count = count;
    this.ledger = new SharedArrayBuffer(count);
    this.#marks = new Int8Array(this.ledger);
    this.#free = Array.from({ length: count }, (_, index) => count - 1 - index);
  }

  /** Places of requests that are not over. */
  get taken(): number {
    return this.#count - this.#free.length - this.#held.size;
  }

  /** A free place, unmarked; throws `NO_CAPACITY` where there is none. */
  take(): number {
    const slot = this.#free.pop();
    if (slot === undefined) throw new HostError("NO_CAPACITY", "too many requests in one cell");
    Atomics.store(this.#marks, slot, 0);
    return slot;
  }

  /** Notes that the thread was told to cancel the request in `slot`. */
  cancelled(slot: number): void {
    this.#cancelled.add(slot);
  }

  /**
   * Gives a place back. A cancel and the next request of the same place travel through different ports and may
   * overtake each other: after a cancel the place is free once the thread has answered the ping whose number is
   * returned, which the caller sends behind the cancel.
   */
  free(slot: number): number | null {
    if (!this.#cancelled.delete(slot)) {
      this.#free.push(slot);
      return null;
    }
    this.#pings += 1;
    this.#held.set(this.#pings, slot);
    return this.#pings;
  }

  /** The thread has answered ping `sequence`, and so heard what was sent before it. */
  heard(sequence: number): void {
    const slot = this.#held.get(sequence);
    if (slot === undefined) return;
    this.#held.delete(sequence);
    this.#free.push(slot);
  }

  marked(slot: number): boolean {
    return Atomics.load(this.#marks, slot) === 1;
  }
}
