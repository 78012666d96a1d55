import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { Overload } from "./overload-run.ts";

const run = promisify(execFile);
const script = fileURLToPath(new URL("./overload-run.ts", import.meta.url));

/** Runs in a process of its own, so that an abort is a failed test. */
async function overload(shape: string, ...figures: number[]): Promise<Overload> {
  const { stdout } = await run(process.execPath, [script, shape, ...figures.map(String)], {
    // Without Vitest's own settings.
    env: { PATH: process.env["PATH"] },
    timeout: 50_000,
  });
  return JSON.parse(stdout) as Overload;
}

describe("a heap that grows without end", () => {
  it.each<[string, string, ...number[]]>([
    ["a Map", "/grow-map", 96],
    ["an array", "/grow-array", 96],
    ["Buffers, which V8's own limits do not see", "/grow-buffers", 96],
    ["strings", "/grow-strings", 96],
    ["one huge string", "/grow-string", 96],
    ["one huge string of wide characters", "/grow-wide-string", 96],
    // One call takes twice the budget, and meanwhile the thread answers nothing.
    ["arrays that are huge from the start", "/fill", 96],
    ["a block that V8's own limit stops before the governor does", "/hold", 1000, 64],
  ])("by %s ends its own cell, and fails no request in another", async (_, shape, ...limits) => {
    const result = await overload(shape, 2, ...limits);
    const { reasons, greedy, failed, answered, mostCells, left } = result;
    // Each request is sent a second time, and ends a second cell.
    expect(reasons).toEqual(Array.from({ length: 4 }, () => "over-budget"));
    expect(greedy).toEqual(["CELL_LOST", "CELL_LOST"]);
    expect(failed).toEqual([]);
    expect(answered).toBeGreaterThan(0);
    expect(mostCells).toBe(3);
    expect(left).toEqual([]);
  });
});
