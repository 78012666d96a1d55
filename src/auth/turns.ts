/** A few at a time, the others in the order they came, and no more than so many of those. */
import { HostError } from "../kernel/errors.ts";

export class Turns {
  readonly #most: number;
  readonly #mostWaiting: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(most: number, mostWaiting: number) {
    this.#most = most;
    this.#mostWaiting = mostWaiting;
  }

  /** What `work` gives, when its turn has come; rejects at once with `TOKEN_UNVERIFIABLE` where too many wait already. */
  async run<Value>(work: () => Promise<Value>): Promise<Value> {
    if (this.#running >= this.#most) {
      if (this.#waiting.length >= this.#mostWaiting) {
        throw new HostError("TOKEN_UNVERIFIABLE", "too many tokens of one tenant wait to be verified");
      }
      // Whoever ends hands its place over: nobody who comes in between takes it.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#running += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
