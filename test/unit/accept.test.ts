import { createRequire } from "node:module";
import { describe, expect, it } from "vitest";
import { acceptedTypes } from "../../src/http/accept.ts";

describe("an Accept header", () => {
  it.each<[string, string | null]>([
    ["application/json", "application/json"],
    ["*/*", "*/*"],
    ["", null],
    [" ", null],
    [",, ,", null],
    ["application/json,", "application/json"],
    [";application/json", "application/json"],
    ["application/json;", "application/json"],
    ["application/json ; ; q=0.9 , text/html", "application/json;q=0.9,text/html"],
    [
      'multipart/mixed;boundary="graph, ql";subscriptionSpec=1.0,application/json',
      'multipart/mixed;boundary="graph, ql";subscriptionSpec=1.0,application/json',
    ],
    [
      "multipart/mixed; deferSpec=20220824, application/json",
      "multipart/mixed;deferSpec=20220824,application/json",
    ],
    ["text/*;q=0", "text/*;q=0"],
  ])("%j is %j", (header, expected) => {
    expect(acceptedTypes(header)).toBe(expected);
  });

  it.each([
    "application",
    "application/",
    "/json",
    "*",
    "*/json",
    "a/*b",
    "application/json;q",
    "application/json;q=2",
    "application/json;q=-1",
    "application/json;q=nan",
    "application/json;=1",
    'application/json;a="x',
    "a/b c/d;",
    "a/b;c=d\u00e9",
    "application/json\u0000",
    "a/b,".repeat(300),
    '"\\'.repeat(500),
    // Whoever read it in every way that it can be read would never end.
    `a/b${';c=""'.repeat(190)}!`,
  ])("%j is refused", (header) => {
    expect(() => acceptedTypes(header)).toThrow(expect.objectContaining({ code: "BAD_REQUEST" }));
  });

  it("a value that is let through is one that grafserv understands", async () => {
    const { makeAcceptMatcher } = createRequire(createRequire(import.meta.url).resolve("grafserv"))(
      "./accept.js",
    );
    const read = makeAcceptMatcher(["application/json"]);
    const alphabet = [
      "a",
      "/",
      "*",
      ";",
      ",",
      " ",
      "q=",
      "=",
      '"',
      "\\",
      "0.5",
      "1",
      "\t",
      "é",
      "application/json",
    ];
    let seed = 7;
    const next = (): string => {
      seed = (seed * 48_271) % 2_147_483_647;
      return alphabet[seed % alphabet.length] ?? "";
    };
    let passed = 0;
    for (let round = 0; round < 20_000; round += 1) {
      const header = Array.from({ length: 1 + (round % 9) }, next).join("");
      let accepted: string | null;
      try {
        accepted = acceptedTypes(header);
      } catch {
        continue;
      }
      if (accepted === null) continue;
      passed += 1;
      expect(() => read(accepted), JSON.stringify([header, accepted])).not.toThrow();
    }
    expect(passed).toBeGreaterThan(100);
  });
});
