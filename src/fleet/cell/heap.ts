/** What is known about a thread's heap. */
import type { Worker } from "node:worker_threads";
import type { BuildReport, CellMessage } from "../../shared/protocol/messages.ts";

const mb = 1024 * 1024;

type Collected = Extract<CellMessage, { kind: "collected" }>;

export class CellHeap {
  /** Heap and external memory at the last reading, garbage included: V8's own limits do not cover Buffers. */
  usedMb = 0;
  /** Heap after the last requested collection; null if something has left the thread since. */
  liveMb: number | null = null;
  /** `usedMb` at the first reading after that collection; anything above it was allocated since. */
  settledMb = 0;
  lastCollectionMs = Number.NEGATIVE_INFINITY;
  /**
   * State at the end of the last build, garbage included: memory in use, and its growth since built instances
   * were last measured.
   */
  unmeasured = { usedMb: 0, grownMb: 0 };
  lastBuiltMs = Number.NEGATIVE_INFINITY;
  /** Resolvers for instances that wait to be measured, by number. */
  readonly #awaited = new Map<number, (heapMb: number) => void>();
  /**
   * Measurements that arrived before `sizeOf` was called: messages on the thread's two channels are not
   * ordered with each other.
   */
  readonly #early = new Map<number, number>();
  #asked = 0;
  #answered = 0;
  /** Collections up to this number were requested before something left, so their results are stale. */
  #outdated = 0;
  #settling = false;
  #reading: Promise<number> | null = null;

  /** Whether a collection is under way. */
  get collecting(): boolean {
    return this.#asked !== this.#answered;
  }

  /**
   * Reads the size from outside the thread. It answers (in 27 µs) even while the thread runs a JavaScript
   * loop, but not before the end of a native call (1.3 s of `execSync` measured), so a caller that watches
   * other threads must not wait for it.
   */
  measure(worker: Worker): Promise<number> {
    this.#reading ??= this.#read(worker).finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #read(worker: Worker): Promise<number> {
    try {
      const { used_heap_size, external_memory } = await worker.getHeapStatistics();
      this.usedMb = (used_heap_size + external_memory) / mb;
      if (this.#settling) this.settledMb = this.usedMb;
      this.#settling = false;
    } catch {
      // The thread is ending; the last reading stays.
    }
    return this.usedMb;
  }

  /** The number of the collection to request, or undefined while one is under way. */
  askForCollection(nowMs: number): number | undefined {
    if (this.collecting) return undefined;
    this.#asked += 1;
    this.lastCollectionMs = nowMs;
    return this.#asked;
  }

  /** The size of an instance, once it has been measured; never settles if the thread or the instance goes first. */
  sizeOf(instance: number): Promise<number> {
    const known = this.#early.get(instance);
    if (known !== undefined) {
      this.#early.delete(instance);
      return Promise.resolve(known);
    }
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#awaited.set(instance, resolve);
    return promise;
  }

  collected({ sequence, heapUsedBytes, measured }: Collected): void {
    this.#answered = sequence;
    for (const { instance, heapBytes } of measured) {
      const resolve = this.#awaited.get(instance);
      if (resolve === undefined) this.#early.set(instance, heapBytes / mb);
      else resolve(heapBytes / mb);
      this.#awaited.delete(instance);
    }
    if (sequence <= this.#outdated) return;
    this.liveMb = heapUsedBytes / mb;
    this.#settling = true;
  }

  built({ usedBytes, grownBytes }: BuildReport, nowMs: number): void {
    this.unmeasured = { usedMb: usedBytes / mb, grownMb: grownBytes / mb };
    this.lastBuiltMs = nowMs;
  }

  /** Call when an instance leaves the thread: earlier measurements no longer apply. */
  outdate(instance: number): void {
    this.#awaited.delete(instance);
    this.liveMb = null;
    this.settledMb = 0;
    this.#outdated = this.#asked;
  }
}
