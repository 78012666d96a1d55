/** Known differences that are not a host's fault, with their reasons. */

/** A cursor: base64 of a JSON array whose first item is a digest of the order's SQL. */
const cursor = /"Wy[A-Za-z0-9+/]+={0,2}"/g;

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

/** `answer` with each schema name, including its dot, in the values of `reg*` columns replaced by the result of `spelled`. */
function withRegSchemas(answer: string, spelled: (schema: string) => string): string {
  return answer.replace(
    /("reg[a-z]+": )("(?:[^"\\]|\\.)*")/gi,
    (_, key: string, value: string) =>
      `${key}${value.replace(/\b([a-z]\w*)\./g, (_name, schema: string) => spelled(schema))}`,
  );
}

export interface ArmNames {
  readonly pooled: boolean;
  /** The PostgreSQL name of a schema of the suite. */
  physical(schema: string): string;
}

/** Why `found` may differ from `expected`; null if it may not. */
export function excused(expected: string, found: string, { pooled, physical }: ArmNames): string | null {
  const spelled = (answer: string): string =>
    withRegSchemas(answer, (schema) => (pooled ? "" : `${physical(schema)}.`));
  const regular = pooled ? withRegSchemas(found, () => "") : found;
  const reg = pooled ? "reg* text without a schema" : "reg* text with PostgreSQL's name of the schema";
  if (withoutDigests(expected) === withoutDigests(found)) return "digests in cursors";
  if (spelled(expected) === regular) return reg;
  if (withoutDigests(spelled(expected)) === withoutDigests(regular)) return `digests in cursors, and ${reg}`;
  return null;
}
