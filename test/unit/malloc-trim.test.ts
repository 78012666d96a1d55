import { expect, it } from "vitest";
import { collectGarbage } from "../../src/shared/memory/gc.ts";
import { MallocTrim } from "../../src/shared/memory/malloc-trim.ts";

const rssMb = (): number => process.memoryUsage.rss() / 2 ** 20;

/** So small that each is malloc's own affair, with one in a hundred kept, so that no arena ends in free memory. */
function scatter(): Buffer[] {
  return Array.from({ length: 100_000 }, () => Buffer.allocUnsafeSlow(3_000).fill(1)).filter(
    (_, index) => index % 100 === 0,
  );
}

it.runIf(new MallocTrim().trims)("a trim returns freed memory that the C library has kept", async () => {
  const allocator = new MallocTrim();
  const kept = scatter();
  const before = rssMb();
  // V8 frees buffers on a thread of its own, some time after the collection.
  const trimmed = async (): Promise<number> => {
    collectGarbage();
    await Promise.all([allocator.trim(), allocator.trim()]);
    return rssMb();
  };
  await expect.poll(trimmed).toBeLessThan(before - 150);
  expect(kept.length).toBe(1_000);
});

it("a trim is available wherever the C library is glibc", () => {
  const report: object = process.report.getReport();
  expect(new MallocTrim().trims).toBe(JSON.stringify(report).includes('"glibcVersionRuntime"'));
});
