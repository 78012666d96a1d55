/** Limits how many requests of one tenant, or of one client, are under way. */
import type { HostError } from "../../shared/kernel/errors.ts";

export class ConcurrencyLimit<Key extends string> {
  readonly #counts = new Map<Key, number>();
  readonly #most: number;
  readonly #refusal: () => HostError;

  /** `refusal` makes the error for a key that has reached the limit. */
  constructor(most: number, refusal: () => HostError) {
    this.#most = most;
    this.#refusal = refusal;
  }

  /** Counts one more, to be given back by `release`; throws the refusal if the limit is reached. */
  acquire(key: Key): void {
    const count = this.#counts.get(key) ?? 0;
    if (count >= this.#most) throw this.#refusal();
    this.#counts.set(key, count + 1);
  }

  release(key: Key): void {
    const count = this.#counts.get(key) ?? 0;
    if (count > 1) this.#counts.set(key, count - 1);
    else this.#counts.delete(key);
  }
}

/** One request's slot. */
export class ConcurrencySlot<Key extends string> {
  readonly #inFlight: ConcurrencyLimit<Key>;
  #key: Key | null = null;

  constructor(inFlight: ConcurrencyLimit<Key>) {
    this.#inFlight = inFlight;
  }

  /** Moves the slot to `key`, which may change during a request; throws what `ConcurrencyLimit.acquire` does. */
  acquire(key: Key): void {
    if (key === this.#key) return;
    this.release();
    this.#inFlight.acquire(key);
    this.#key = key;
  }

  release(): void {
    if (this.#key !== null) this.#inFlight.release(this.#key);
    this.#key = null;
  }
}
