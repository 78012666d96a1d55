/** One kind of lines of the canonical text. */

/**
 * Lines of one kind: `place` and `position` order them, with the line itself as the last word. Wherever the introspection
 * lists things by oid and that order reaches the API (schemas; the foreign keys that arrive at one table), so do the lines.
 */
export interface Lines {
  readonly place: string;
  readonly position?: string;
  readonly line: readonly string[];
  /** The rest of the query, from FROM. */
  readonly from: string;
}
