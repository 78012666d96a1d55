/** One run of a piece of work per key at a time; whoever asks meanwhile waits for that run. */
export class SingleFlight<Key, Value> {
  readonly #running = new Map<Key, Promise<Value>>();

  /** The result of the run in flight for `key`, or of `work`, which then becomes that run. Failures are shared, never kept. */
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
