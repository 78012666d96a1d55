/** How many requests of each tenant, or of each client, are under way, so that none takes more than its share. */
import type { HostError } from "../../shared/kernel/errors.ts";

export class InFlight<Key extends string> {
  readonly #counts = new Map<Key, number>();
  readonly #most: number;
  readonly #refusal: () => HostError;

  /** `refusal` is for those that have their share. */
  constructor(most: number, refusal: () => HostError) {
    this.#most = most;
    this.#refusal = refusal;
  }

  /** Counts one more, for which a `leave` is owed; throws the refusal where there are as many as may be. */
  enter(key: Key): void {
    const count = this.#counts.get(key) ?? 0;
    if (count >= this.#most) throw this.#refusal();
    this.#counts.set(key, count + 1);
  }

  leave(key: Key): void {
    const count = this.#counts.get(key) ?? 0;
    if (count > 1) this.#counts.set(key, count - 1);
    else this.#counts.delete(key);
  }
}

/** One request's place among its tenant's, or its client's. */
export class Stay<Key extends string> {
  readonly #inFlight: InFlight<Key>;
  #key: Key | null = null;

  constructor(inFlight: InFlight<Key>) {
    this.#inFlight = inFlight;
  }

  /** Also where the request turns out to be another's; throws what `enter` does. */
  begin(key: Key): void {
    if (key === this.#key) return;
    this.end();
    this.#inFlight.enter(key);
    this.#key = key;
  }

  end(): void {
    if (this.#key !== null) this.#inFlight.leave(this.#key);
    this.#key = null;
  }
}
