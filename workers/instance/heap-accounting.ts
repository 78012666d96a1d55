/** What each instance added to the heap, found out by one collection after any number of builds. */
import { getHeapStatistics } from "node:v8";
import { collectGarbage } from "../../src/shared/memory/gc.ts";

export interface Measured {
  readonly instance: number;
  readonly heapBytes: number;
}

/** Answers add plans and compiled code: after this long a measure is no longer what a build began with. */
const freshMs = 2_000;

export class Growth {
  /** Built since the last measure: how many types each has, which is how they share what came. */
  readonly #added = new Map<number, number>();
  /** Live at the last collection; null where nothing was collected, or something has left since. */
  #live: { readonly bytes: number; readonly atMs: number } | null = null;
  /** Whether nothing but builds came between that collection and the first of `#added`. */
  #exact = false;
  /** In use, garbage included, as the first of `#added` began, and as the last one ended. */
  #firstBytes = 0;
  #lastBytes = 0;
  /** Builds under way. */
  #building = 0;
  /** From the last group that was measured exactly. */
  #bytesPerType: number | null = null;

  /** Once the thread has its modules: what the first build is measured by. */
  settle(): void {
    if (this.#live === null && this.#idle) this.#collect();
  }

  /** To be called before a build, which `end` is to follow; `empty`: nothing is in this thread, nor served by it. */
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

  /** Something was built; returns what is in use, and what came since the last measure, external memory and garbage included. */
  add(instance: number, types: number): { readonly usedBytes: number; readonly grownBytes: number } {
    const { used_heap_size, external_memory } = getHeapStatistics();
    this.#added.set(instance, types);
    this.#lastBytes = used_heap_size;
    const usedBytes = used_heap_size + external_memory;
    return { usedBytes, grownBytes: Math.max(0, usedBytes - (this.#live?.bytes ?? 0)) };
  }

  /** Something leaves: the collection before says nothing any more. */
  release(instance: number): void {
    this.#added.delete(instance);
    this.#live = null;
    this.#exact = false;
  }

  /** Collects (100–200 ms of the process with 20 instances), and tells what those built since the last time take. */
  measure(): { readonly heapUsedBytes: number; readonly measured: readonly Measured[] } {
    // With half an instance in it the heap tells nothing about the others, nor is it a measure for what comes.
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

  /** Of what is live now, the part of those built: what requests have added meanwhile is not theirs. */
  #grown(before: number, bytes: number, types: number): number {
    // All that was in use when the last of them was built, less what was live before.
    const most = Math.min(bytes, this.#lastBytes) - before;
    if (this.#exact) return Math.max(0, most);
    // All that is live, less what was in use before.
    const least = bytes - this.#firstBytes;
    const likely = this.#bytesPerType === null ? least : types * this.#bytesPerType;
    return Math.max(0, least, Math.min(likely, most));
  }
}
