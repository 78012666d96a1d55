/** Bytes that wait in this process for clients: bodies that have not come whole, or are at work, and answers that are not read. */

interface Waiting {
  bytes: number;
  /** Ends the wait; null for what is no longer the client's to delay. */
  cut: (() => void) | null;
}

/** A bound on what slow clients make the process keep: where it is passed, those go that have waited longest. */
export class Backlog {
  readonly #mostBytes: number;
  /** In the order of their first bytes. */
  readonly #waiting = new Map<object, Waiting>();
  #bytes = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /**
   * Counts `bytes` more for `owner`, for which a `leave` is owed, and has others cut until there is room. False where
   * there is none even so.
   */
  add(owner: object, bytes: number, cut: () => void): boolean {
    const known = this.#waiting.get(owner);
    if (known === undefined) this.#waiting.set(owner, { bytes, cut });
    else known.bytes += bytes;
    this.#bytes += bytes;
    for (const [each, waiting] of this.#waiting) {
      if (this.#bytes <= this.#mostBytes) break;
      if (each === owner || waiting.cut === null) continue;
      this.leave(each);
      waiting.cut();
    }
    return this.#bytes <= this.#mostBytes;
  }

  /** From now on `owner` is not cut, but its bytes count. */
  keep(owner: object): void {
    const waiting = this.#waiting.get(owner);
    if (waiting !== undefined) waiting.cut = null;
  }

  leave(owner: object): void {
    const waiting = this.#waiting.get(owner);
    if (waiting === undefined) return;
    this.#bytes -= waiting.bytes;
    this.#waiting.delete(owner);
  }
}
