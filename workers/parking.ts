/** Tells the front which requests it need not count among those that keep the thread busy. */

/** How long a request may be under way before it is taken to wait for something else, such as PostgreSQL. */
const parkedAfterMs = 10;

/**
 * The front gives a thread few requests at a time. One that waits for PostgreSQL takes none of the thread's time, and must not
 * keep others from it. Those that are answered quickly cost no message of their own.
 */
export class Parking {
  readonly #tell: (upTo: number) => void;
  /** Requests under way that the front counts. */
  readonly #running = new Set<number>();
  #newest = 0;
  #timer: NodeJS.Timeout | null = null;

  /** `tell` is given a number: every request up to it has been taken up, and those still under way are waiting. */
  constructor(tell: (upTo: number) => void) {
    this.#tell = tell;
  }

  /** Numbers come in ascending order. */
  begin(number: number): void {
    this.#running.add(number);
    this.#newest = number;
    this.#watch();
  }

  end(number: number): void {
    this.#running.delete(number);
  }

  /** To be called when whatever has begun has run as far as it could: what is not over is waiting. */
  parkAll(): void {
    this.#park(this.#newest);
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

  #park(upTo: number): void {
    let parked = 0;
    for (const number of this.#running) {
      // Numbers are added in ascending order, and a Set keeps it.
      if (number > upTo) break;
      this.#running.delete(number);
      parked += 1;
    }
    if (parked > 0) this.#tell(upTo);
  }
}
