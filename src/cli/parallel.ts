/** Work on many things, a few at a time. */

/** What `work` makes of each of `items`, in their order, with at most `most` under way; the first failure is thrown. */
export async function inParallel<Item, Value>(
  items: readonly Item[],
  most: number,
  work: (item: Item) => Promise<Value>,
): Promise<readonly Value[]> {
  const values: Value[] = [];
  const left = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of left) values[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, worker));
  return values;
}
