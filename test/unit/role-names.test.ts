import { describe, expect, it } from "vitest";
import { roleNames } from "../../src/cli/install.ts";

describe("a list of roles", () => {
  it.each([
    ["a", ["a"]],
    ["a, b", ["a", "b"]],
    [' "x,y" , z', ["x,y", "z"]],
    ['"Host, ""odd"" N"', ['Host, "odd" N']],
    ['"a""b"', ['a"b']],
    ['""""', ['"']],
    ["two words", ["two words"]],
    ['" a "', [" a "]],
  ])("%s names %j", (text, names) => {
    expect(roleNames(text)).toEqual(names);
  });

  it.each(["", " ", ",", ",a", "a,", "a,,b", '"a', 'a"b', '""', '"a" "b"', '"a"b', '"a"b"'])(
    "is not %j",
    (text) => {
      expect(() => roleNames(text)).toThrow(/is not a list of roles/);
    },
  );
});
