/** What is known of a thread's heap. */
import type { Worker } from "node:worker_threads";
import type { BuildReport, CellMessage } from "../../shared/protocol/messages.ts";

const mb = 1024 * 1024;

type Collected = Extract<CellMessage, { kind: "collected" }>;

export class CellHeap {
  /** Heap and external memory at the last look, garbage included: V8's own limits do not see Buffers. */
  usedMb = 0;
  /** Heap after the last collection that was asked for; null where something left the thread since. */
  liveMb: number | null = null;
  /** `usedMb` at the first look after that collection: what is more came since. */
  settledMb = 0;
  lastCollectionMs = Number.NEGATIVE_INFINITY;
  /** As the last build ended, garbage included: what was in use, and what of it came since what is built was last measured. */
  unmeasured = { usedMb: 0, grownMb: 0 };
  lastBuiltMs = Number.NEGATIVE_INFINITY;
  /** Of instances that wait to be measured, by number. */
  readonly #awaited = new Map<number, (heapMb: number) => void>();
  /** Measured before anybody asked: the thread's two ways to the front keep no common order. */
  readonly #early = new Map<number, number>();
  #asked = 0;
  #answered = 0;
  /** Collections up to this one were asked for before something left. */
  #outdated = 0;
  #settling = false;
  #reading: Promise<number> | null = null;

  /** Whether a collection is under way. */
  get collecting(): boolean {
    return this.#asked !== this.#answered;
  }

  /**
   * Reads the size from outside. It answers (27 µs) even while the thread is in a loop of JavaScript, but not before
   * the end of a native call (1.3 s of `execSync` measured): whoever has other threads to watch does not wait for it.
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
      // The thread is on its way out; the last reading stands.
    }
    return this.usedMb;
  }

  /** The number of a collection to ask for, or undefined while one is under way. */
  askForCollection(nowMs: number): number | undefined {
    if (this.collecting) return undefined;
    this.#asked += 1;
    this.lastCollectionMs = nowMs;
    return this.#asked;
  }

  /** What an instance takes, once it has been measured; never settles where its thread goes first, or it does. */
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
      const told = this.#awaited.get(instance);
      if (told === undefined) this.#early.set(instance, heapBytes / mb);
      else told(heapBytes / mb);
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

  /** An instance leaves the thread: what was measured with it in there says nothing any more. */
  outdate(instance: number): void {
    this.#awaited.delete(instance);
    this.liveMb = null;
    this.settledMb = 0;
    this.#outdated = this.#asked;
  }
}
