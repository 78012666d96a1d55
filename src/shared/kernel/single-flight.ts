/** At most one run per key at a time; concurrent callers share its result. */
export class SingleFlight<Key, Value> {
  readonly #running = new Map<Key, Promise<Value>>();

  /** Joins the run in flight for `key`, or starts `work` as that run. Failures are shared, never cached. */
  run(key: Key, work: () => Promise<Value>): Promise<Value> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const promise = work().finally(() => this.#running.delete(key));
    this.#running.set(key, promise);
    return promise;
  }

  has(key: Key): boolean {
    return this.#running.has(key);
  }

  keys(): readonly Key[] {
    return [...this.#running.keys()];
  }
}
