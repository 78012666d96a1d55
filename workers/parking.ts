/** Tells the front which requests do not keep the thread busy, so that it stops counting them. */

/** A request under way for this long is assumed to wait for something else, such as PostgreSQL. */
const parkedAfterMs = 10;

/**
 * The front gives a thread few requests at a time. One that waits for PostgreSQL uses none of the thread's time, and must not
 * keep others out. If none waits in the front, nothing is reported, because a message and a timer wake two threads.
 */
export class Parking {
  readonly #tell: (upTo: number) => void;
  /** Requests under way that the front counts, and when each began. */
  readonly #running = new Map<number, number>();
  #newest = 0;
  #contended = false;
  #timer: NodeJS.Timeout | null = null;

  /** `tell` gets a number: every request up to it has been started, and those still under way are waiting. */
  constructor(tell: (upTo: number) => void) {
    this.#tell = tell;
  }

  /** Whether requests wait in the front. */
  set contended(contended: boolean) {
    if (contended === this.#contended) return;
    this.#contended = contended;
    if (contended) this.#parkOld();
    else this.#rest();
  }

  /** Records that a request began. Numbers must ascend. */
  started(number: number): void {
    this.#running.set(number, performance.now());
    this.#newest = number;
    if (this.#contended) this.#watch();
  }

  ended(number: number): void {
    this.#running.delete(number);
  }

  /** To be called when all started requests have run as far as they could: the unfinished ones are waiting. */
  parkAll(): void {
    if (this.#contended) this.#park(this.#newest);
  }

  #parkOld(): void {
    const beforeMs = performance.now() - parkedAfterMs;
    let upTo = 0;
    for (const [number, beganMs] of this.#running) {
      if (beganMs > beforeMs) break;
      upTo = number;
    }
    if (upTo > 0) this.#park(upTo);
    if (this.#running.size > 0) this.#watch();
  }

  #watch(): void {
    if (this.#timer !== null) return;
    const upTo = this.#newest;
    // If the loop was busy when the timer was due, requests that arrived meanwhile have not been examined; they come next.
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#park(upTo);
      if (this.#running.size > 0) this.#watch();
    }, parkedAfterMs);
  }

  #rest(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #park(upTo: number): void {
    let parked = 0;
    for (const number of this.#running.keys()) {
      // A Map keeps insertion order, and numbers are added in ascending order.
      if (number > upTo) break;
      this.#running.delete(number);
      parked += 1;
    }
    if (parked > 0) this.#tell(upTo);
  }
}
