/** Differences that are known, and why they are none of a host's making. */

/** A cursor: base64 of a JSON array whose first item is a digest of the order's SQL. */
const cursor = /"WyI[A-Za-z0-9+/]+={0,2}"/g;

function withoutDigests(answer: string): string {
  return answer.replace(cursor, (text) => {
    try {
      const parsed: unknown = JSON.parse(Buffer.from(text.slice(1, -1), "base64").toString("utf8"));
      if (!Array.isArray(parsed) || !/^[0-9a-f]{10}$/.test(String(parsed[0]))) return text;
      return JSON.stringify(parsed.with(0, "digest"));
    } catch {
      return text;
    }
  });
}

/** The values of `reg*` columns, whose text has no schema where the schema is on the search path. */
const withoutSchemas = (answer: string): string =>
  answer.replace(/("reg[a-z]+": )"(?:[^"\\]|\\.)*"/gi, (_, key: string) => `${key}"…"`);

/** Why `found` may differ from `expected`; null where it may not. */
export function excused(expected: string, found: string, pooled: boolean): string | null {
  const same = (...without: ((answer: string) => string)[]): boolean => {
    const bare = (answer: string): string => without.reduce((text, step) => step(text), answer);
    return bare(expected) === bare(found);
  };
  if (same(withoutDigests)) return "digests in cursors";
  if (pooled && same(withoutSchemas)) return "reg* text without a schema";
  if (pooled && same(withoutDigests, withoutSchemas))
    return "digests in cursors, and reg* text without a schema";
  return null;
}
