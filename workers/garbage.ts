/** A full collection on demand: a heap's size means little to a budget while it holds what nobody refers to. */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collect: (() => void) | undefined;

function isFunction(value: unknown): value is () => void {
  return typeof value === "function";
}

/** Collects, and returns the bytes that this thread's heap then uses. */
export function collectGarbage(): number {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    const exposed: unknown = runInNewContext("gc");
    collect = isFunction(exposed) ? exposed : () => undefined;
  }
  collect();
  return getHeapStatistics().used_heap_size;
}
