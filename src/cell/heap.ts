/** What is known of a thread's heap. */
import type { Worker } from "node:worker_threads";

const mb = 1024 * 1024;

export class CellHeap {
  /** Heap and external memory at the last look, garbage included: V8's own limits do not see Buffers. */
  usedMb = 0;
  /** Heap after the last collection that was asked for; null where something left the thread since. */
  liveMb: number | null = null;
  /** `usedMb` at the first look after that collection: what is more came since. */
  settledMb = 0;
  lastCollectionMs = Number.NEGATIVE_INFINITY;
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

  collected(sequence: number, heapUsedBytes: number): void {
    this.#answered = sequence;
    if (sequence <= this.#outdated) return;
    this.liveMb = heapUsedBytes / mb;
    this.#settling = true;
  }

  /** Something leaves the thread: what was measured with it in there says nothing any more. */
  outdate(): void {
    this.liveMb = null;
    this.settledMb = 0;
    this.#outdated = this.#asked;
  }
}
