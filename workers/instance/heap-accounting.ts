/** Measures what each instance added to the heap, with one collection after any number of builds. */
import { getHeapStatistics } from "node:v8";
import { collectGarbage } from "../../src/shared/memory/gc.ts";

export interface Measured {
  readonly instance: number;
  readonly heapBytes: number;
}

/** Answers add plans and compiled code, so after this time a measurement no longer tells what a build started with. */
const freshMs = 2_000;

export class Growth {
  /** Instances built since the last measurement, with their numbers of types, by which the growth is divided among them. */
  readonly #added = new Map<number, number>();
  /** Live bytes at the last collection; null if there was none, or something was released since. */
  #live: { readonly bytes: number; readonly atMs: number } | null = null;
  /** Whether nothing but builds happened between that collection and the first of `#added`. */
  #exact = false;
  /** Bytes in use, garbage included, when the first of `#added` began and when the last one ended. */
  #firstBytes = 0;
  #lastBytes = 0;
  /** Builds in progress. */
  #building = 0;
  /** From the last group that was measured exactly. */
  #bytesPerType: number | null = null;

  /** Measures the baseline for the first build, once the thread has loaded its modules. */
  settle(): void {
    if (this.#live === null && this.#idle) this.#collect();
  }

  /** To be called before a build, and followed by `end`. `empty` means that this thread has no instance and serves none. */
  begin(empty: boolean): void {
    const first = this.#idle;
    this.#building += 1;
    if (!first) return;
    if (this.#live === null) this.#collect();
    const live = this.#live;
    this.#exact = live !== null && (empty || performance.now() - live.atMs < freshMs);
    this.#firstBytes = getHeapStatistics().used_heap_size;
  }

  end(): void {
    this.#building -= 1;
  }

  /**
   * Records a built instance. Returns the bytes in use, and their growth since the last measurement, external memory and garbage
   * included.
   */
  add(instance: number, types: number): { readonly usedBytes: number; readonly grownBytes: number } {
    const { used_heap_size, external_memory } = getHeapStatistics();
    this.#added.set(instance, types);
    this.#lastBytes = used_heap_size;
    const usedBytes = used_heap_size + external_memory;
    return { usedBytes, grownBytes: Math.max(0, usedBytes - (this.#live?.bytes ?? 0)) };
  }

  /** Records that an instance was released, which makes the last collection meaningless. */
  release(instance: number): void {
    this.#added.delete(instance);
    this.#live = null;
    this.#exact = false;
  }

  /**
   * Collects garbage (which stops the process for 100–200 ms with 20 instances), and reports the size of the instances built
   * since the last time.
   */
  measure(): { readonly heapUsedBytes: number; readonly measured: readonly Measured[] } {
    // With a build in progress, the heap tells nothing about the other instances, and is no baseline either.
    if (this.#building > 0) return { heapUsedBytes: collectGarbage(), measured: [] };
    const before = this.#live?.bytes ?? 0;
    const heapUsedBytes = this.#collect();
    const types = [...this.#added.values()].reduce((sum, count) => sum + count, 0);
    const grown = this.#grown(before, heapUsedBytes, types);
    const measured = [...this.#added].map(([instance, count]) => ({
      instance,
      heapBytes: Math.round((grown * count) / Math.max(1, types)),
    }));
    if (this.#exact && types > 0) this.#bytesPerType = grown / types;
    this.#added.clear();
    return { heapUsedBytes, measured };
  }

  get #idle(): boolean {
    return this.#added.size === 0 && this.#building === 0;
  }

  #collect(): number {
    const bytes = collectGarbage();
    this.#live = { bytes, atMs: performance.now() };
    return bytes;
  }

  /** The share of the instances in what is live now, without what requests have added meanwhile. */
  #grown(before: number, bytes: number, types: number): number {
    // Upper bound: all that was in use when the last of them was built, less what was live before.
    const most = Math.min(bytes, this.#lastBytes) - before;
    if (this.#exact) return Math.max(0, most);
    // Lower bound: all that is live, less what was in use before.
    const least = bytes - this.#firstBytes;
    const likely = this.#bytesPerType === null ? least : types * this.#bytesPerType;
    return Math.max(0, least, Math.min(likely, most));
  }
}
