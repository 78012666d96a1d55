/** When a thread gives back what V8 holds in reserve: while it rests, and where there is something to give. */
import { getHeapStatistics } from "node:v8";
import { releaseFreePages } from "./gc.ts";

/** Ticks, a second each, in which nothing came: builds and requests come in rows. */
const restTicks = 3;
/** What the heap must have grown by since, and by which share: the collection takes 20 ms of a small heap, 1 ms a MB of a large one. */
const minBytes = 8 * 2 ** 20;
const minShare = 0.25;

export interface HeapGrowth {
  /** What the heap took right after the reserve was last given back; 0: it never was. */
  readonly heldBytes: number;
  readonly nowBytes: number;
}

/** Whether giving back pays. Pure. */
export function isWorthReleasing({ heldBytes, nowBytes }: HeapGrowth): boolean {
  return nowBytes - heldBytes >= Math.max(minBytes, heldBytes * minShare);
}

const heldBytes = (): number => getHeapStatistics().total_physical_size;

/** Of one thread. A host of one blueprint takes 202 MB under load, and 160 once it has rested (Node 24.21). */
export class IdleGc {
  #heldBytes = 0;
  #seen = 0;
  #rested = restTicks;

  /** To be called once a second, with how much the thread has done so far, by whatever measure; never while it does something. */
  tick(done: number): void {
    if (done !== this.#seen) {
      this.#seen = done;
      this.#rested = 0;
      return;
    }
    if (this.#rested >= restTicks) return;
    this.#rested += 1;
    if (this.#rested < restTicks) return;
    if (!isWorthReleasing({ heldBytes: this.#heldBytes, nowBytes: heldBytes() })) return;
    releaseFreePages();
    this.#heldBytes = heldBytes();
  }
}
