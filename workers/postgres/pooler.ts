/** Whether the cell's connections to a database go through a pooler, as far as has been observed. */
export class Pooler {
  readonly #tell: (sign: string) => void;
  #isThere = false;

  constructor(tell: (sign: string) => void) {
    this.#tell = tell;
  }

  get isThere(): boolean {
    return this.#isThere;
  }

  /** Records that a pooler is there, for good; `sign` is the observation that showed it, as a sentence for the log. */
  notice(sign: string): void {
    if (this.#isThere) return;
    this.#isThere = true;
    this.#tell(sign);
  }
}
