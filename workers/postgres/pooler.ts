/** Whether the cell's connections to a database are a pooler's, as far as anything has told. */
export class Pooler {
  readonly #tell: (sign: string) => void;
  #isThere = false;

  constructor(tell: (sign: string) => void) {
    this.#tell = tell;
  }

  get isThere(): boolean {
    return this.#isThere;
  }

  /** To be called with what told so, as a sentence; a pooler stays there. */
  notice(sign: string): void {
    if (this.#isThere) return;
    this.#isThere = true;
    this.#tell(sign);
  }
}
