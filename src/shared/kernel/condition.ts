/** Signals "something changed"; waiters then check again. */
export class Condition {
  #next = Promise.withResolvers<void>();

  notify(): void {
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers<void>();
    resolve();
  }

  /** Resolves at the next `notify`, or after `timeoutMs`. */
  async wait(timeoutMs: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, Math.max(1, timeoutMs));
    await Promise.race([this.#next.promise, late.promise]);
    clearTimeout(timer);
  }
}
