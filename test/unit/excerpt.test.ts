import { describe, expect, it } from "vitest";
import {
  excerpt,
  excerptCharacters,
  excerptOfStack,
  withoutSecrets,
} from "../../src/shared/kernel/excerpt.ts";

const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
/** `text`, so that the cut falls behind its first `shown` characters. */
const straddling = (text: string, shown: number): string => {
  const length = 10_000;
  const note = ` … (${length} characters)`;
  const before = "x ".repeat(excerptCharacters).slice(0, excerptCharacters - note.length - shown - 1);
  const padded = `${before} ${text}`;
  return padded + " y".repeat(length).slice(0, length - padded.length);
};

describe("an excerpt", () => {
  it("of a short text without secrets is that text", () => {
    const text = 'relation "item" does not exist at file:///app/x.ts:1:2';
    expect(excerpt(text)).toBe(text);
  });

  it("is bounded, and gives the length of the text", () => {
    for (const text of [
      "a".repeat(300_000),
      "a ".repeat(150_000),
      '"a" '.repeat(75_000),
      "😀".repeat(150_000),
    ]) {
      const shown = excerpt(text);
      expect(shown.length).toBeLessThanOrEqual(excerptCharacters);
      expect(shown).toContain("(300000 characters)");
      expect(shown.isWellFormed()).toBe(true);
    }
  });

  it.each([
    ["a quoted value", `invalid input syntax for type integer: "${"a".repeat(300)}"`],
    ["one in the middle", `value "${"a".repeat(300)}" is out of range for type integer`],
    ["one with a quote in it", `invalid input syntax for type integer: "aaa"${"a".repeat(300)}"`],
    ["one made of quotes", `invalid input syntax for type integer: "${'aa"aa"'.repeat(50)}"`],
    ["one with words in quotes", `invalid input syntax for type integer: "he "said" ${"a".repeat(300)}"`],
    ["one of many lines", `invalid input syntax for type integer: "${"a\n".repeat(150)}"`],
    ["one that the cut leaves open", `invalid input syntax for type integer: "${"a".repeat(300_000)}"`],
    ["one with a quote that the cut leaves open", `invalid: "a"b"${"a".repeat(300_000)}"`],
    ["two, the latter longer", `enum "mood" has no value "${"a".repeat(300)}"`],
  ])("omits %s, and keeps the rest of the message", (_, text) => {
    const shown = excerpt(text);
    expect(shown).not.toMatch(/a{20}|(?:a\n){9}|(?:aa"){4}/);
    expect(shown).toMatch(/^(?:invalid|value|enum)/);
    expect(excerpt(shown)).toBe(shown);
  });

  it("keeps names from PostgreSQL", () => {
    const name = "n".repeat(63);
    const text = `insert on table "${name}" violates constraint "${name}" of "${name}"."${name}": ("${name}", "x").`;
    expect(excerpt(text)).toBe(text);
  });

  it.each([
    ["the password of a URL", "postgres://app:hunter2hunter2@db/x", "hunter2"],
    ["one with an @ and slashes", "postgres://app:hun@/hunter2/@db/x", "hunter2"],
    ["one in quotes", `"postgres://app:hunter2'"hunter2@db/x"`, "hunter2"],
    ["a URL's that was taken for a path", "postgres:/app:hunter2hunter2@db", "hunter2"],
    ["a password parameter", "postgres://db/x?password=hunter2hunter2", "hunter2"],
    ["a bearer token", "Bearer sesame.sesame.sesame", "sesame"],
    ["a JWT", jwt, "hbGci"],
  ])("hides %s, wherever it is cut", (_, text, secret) => {
    for (const hide of [excerpt, withoutSecrets]) {
      expect(hide(text)).not.toContain(secret);
      for (let shown = 1; shown <= text.length; shown += 1) {
        const cut = hide(straddling(text, shown));
        expect(cut, String(shown)).not.toContain(secret.slice(0, 3));
        expect(cut).toContain("(10000 characters)");
      }
    }
  });

  it("of a stack keeps the frames, however long the message and whatever it looks like", () => {
    const message = `"${"a".repeat(300_000)}\n    at fake (file:///fake.ts:1:2)"`;
    const error = new Error(message);
    const shown = excerptOfStack(error.stack ?? "", message);
    expect(shown.length).toBeLessThanOrEqual(excerptCharacters);
    expect(shown).toContain("excerpt.test.ts");
    expect(shown).not.toContain("aaaa");
  });
});
