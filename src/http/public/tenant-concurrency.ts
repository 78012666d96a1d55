/** How many requests of each tenant, or of each client, are under way, so that none takes more than its share. */
import type { HostError } from "../../shared/kernel/errors.ts";

export class ConcurrencyLimit<Key extends string> {
  readonly #counts = new Map<Key, number>();
  readonly #most: number;
  readonly #refusal: () => HostError;

  /** `refusal` is for those that have their share. */
  constructor(most: number, refusal: () => HostError) {
    this.#most = most;
    this.#refusal = refusal;
  }

  /** Counts one more, for which a `leave` is owed; throws the refusal where there are as many as may be. */
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

/** One request's place among its tenant's, or its client's. */
export class ConcurrencySlot<Key extends string> {
  readonly #inFlight: ConcurrencyLimit<Key>;
  #key: Key | null = null;

  constructor(inFlight: ConcurrencyLimit<Key>) {
    this.#inFlight = inFlight;
  }

  /** Also where the request turns out to be another's; throws what `enter` does. */
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
