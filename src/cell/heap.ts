/** What is known of a thread's heap. */
import type { Worker } from "node:worker_threads";

const mb = 1024 * 1024;

export class CellHeap {
  /** Heap and external memory at the last look, garbage included: V8's own limits do not see Buffers. */
  usedMb = 0;
  /** Heap after the last collection that was asked for; null where something left the thread since. */
  liveMb: number | null = null;
  lastCollectionMs = 0;
  #asked = 0;
  #answered = 0;

  /** Whether a collection is under way. */
  get collecting(): boolean {
    return this.#asked !== this.#answered;
  }

  /** Reads the size from outside: it answers (27 µs) even while the thread is in a synchronous loop. */
  async measure(worker: Worker): Promise<number> {
    try {
      const { used_heap_size, external_memory } = await worker.getHeapStatistics();
      this.usedMb = (used_heap_size + external_memory) / mb;
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
    this.liveMb = heapUsedBytes / mb;
  }
}
