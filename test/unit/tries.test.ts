import { describe, expect, it } from "vitest";
import { isExhausted } from "../../src/cell/tries.ts";

describe("a request under which the schema moves", () => {
  it.each([
    ["has run four times", { runs: 4, builds: 0 }, 0, true],
    ["has run three times", { runs: 3, builds: 3 }, 9_999, false],
    ["was built for three times, however long that took", { runs: 0, builds: 3 }, 60_000, false],
    ["was built for four times, and has time left", { runs: 0, builds: 4 }, 1_000, false],
    ["was built for four times, and has none left", { runs: 0, builds: 4 }, 1_001, true],
    ["was built for twelve times at once", { runs: 0, builds: 12 }, 0, true],
  ])("that %s", (_, tries, waitedMs, expected) => {
    expect(isExhausted({ ...tries, lost: 0, moved: 0, sinceMs: 500 }, 500 + waitedMs, 1_000)).toBe(expected);
  });
});
