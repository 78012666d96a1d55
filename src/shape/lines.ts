/** One kind of line in the canonical text. */

/**
 * Lines of one kind, ordered by `place`, `position` and finally the line itself. Wherever the introspection
 * lists things by oid and that order affects the API (schemas; the foreign keys that refer to one table), the
 * lines have the same order.
 */
export interface Lines {
  /** The text that has the lines, if not both have them. */
  readonly in?: "full" | "core";
  readonly place: string;
  readonly position?: string;
  readonly line: readonly string[];
  /** The rest of the query, from FROM. */
  readonly from: string;
}

/** The lines of the core shape: those of `lines` without some columns. */
export const without = ({ line, ...rest }: Lines, ...columns: readonly string[]): Lines => ({
  ...rest,
  in: "core",
  line: line.filter((column) => !columns.includes(column)),
});
