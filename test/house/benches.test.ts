import { describe, expect, it } from "vitest";
import { attacks } from "../../bench/attacks/list.ts";
import { filesIn } from "../support/source-files.ts";

const page = filesIn("docs").find(({ path }) => path === "docs/benches.md")?.text ?? "";

/** The cells of the table under `head`, by row. */
function tableUnder(head: string): string[][] {
  const lines = page.slice(page.indexOf(`${head}\n`)).split("\n");
  const rows = lines.slice(2, lines.indexOf(""));
  return rows.map((row) => row.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "")));
}

describe("the page about benches", () => {
  it("describes each attack in its own words, in the same order", () => {
    const described = Object.entries(attacks).map(([name, { does }]) => [name, does]);
    expect(described.length).toBeGreaterThan(0);
    expect(tableUnder("| attack | what it does |")).toEqual(described);
  });

  it("lists exactly the benches of the command line", () => {
    const commands = filesIn("bench").find(({ path }) => path === "bench/run.ts")?.text ?? "";
    const known = [...commands.matchAll(/^ {2}(\w+): \(\) => import\(/gm)].map(([, name]) => `\`${name}\``);
    expect(known.length).toBeGreaterThan(5);
    const listed = tableUnder("| name | arms | what is measured |").map(([name]) => name ?? "");
    expect(listed.toSorted()).toEqual(known.toSorted());
  });
});
