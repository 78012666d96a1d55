/** One kind of line in the canonical text. */

/**
 * Lines of one kind, ordered by `place`, `position` and finally the line itself. Wherever the introspection
 * lists things by oid and that order affects the API (schemas; the foreign keys that refer to one table), the
 * lines have the same order.
 */
export interface Lines {
  readonly place: string;
  readonly position?: string;
  readonly line: readonly string[];
  /** The rest of the query, from FROM. */
  readonly from: string;
}
