/** Runs work on many items with limited concurrency. */

/**
 * Calls `work` for each of `items`, with at most `concurrency` at a time; returns the results in order, or throws
 * the first failure.
 */
export async function inParallel<Item, Value>(
  items: readonly Item[],
  concurrency: number,
  work: (item: Item) => Promise<Value>,
): Promise<readonly Value[]> {
  const values: Value[] = [];
  const left = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of left) values[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  return values;
}
