/** Tells the front which requests it need not count among those that keep the thread busy. */

/** How long a request may be under way before it is taken to wait for something else, such as PostgreSQL. */
const parkedAfterMs = 10;

/**
 * The front gives a thread few requests at a time. One that waits for PostgreSQL takes none of the thread's time, and must not
 * keep others from it. Where none waits in the front, nothing is told: a message and a timer wake two threads.
 */
export class Parking {
  readonly #tell: (upTo: number) => void;
  /** Requests under way that the front counts, and when each began. */
  readonly #running = new Map<number, number>();
  #newest = 0;
  #contended = false;
  #timer: NodeJS.Timeout | null = null;

  /** `tell` is given a number: every request up to it has been taken up, and those still under way are waiting. */
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

  /** Numbers come in ascending order. */
  begin(number: number): void {
    this.#running.set(number, performance.now());
    this.#newest = number;
    if (this.#contended) this.#watch();
  }

  end(number: number): void {
    this.#running.delete(number);
  }

  /** To be called when whatever has begun has run as far as it could: what is not over is waiting. */
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
    // Where the loop was busy when the time was up, requests that came meanwhile have not been looked at: they are next.
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
      // Numbers are added in ascending order, and a Map keeps it.
      if (number > upTo) break;
      this.#running.delete(number);
      parked += 1;
    }
    if (parked > 0) this.#tell(upTo);
  }
}
