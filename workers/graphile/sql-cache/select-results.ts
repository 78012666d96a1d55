/** Turns the rows read for a select into its result. */
import type { Page } from "./select-step.ts";

export interface SelectResult {
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  readonly items: readonly unknown[];
  readonly cursorDetails: object | undefined;
  readonly groupDetails: object | undefined;
  /** What nested selects need to know. */
  readonly m: object;
}

/** As @dataplan/pg 1.1 does it, for pages without a cursor; `select-probe.ts` holds it to that. */
export function pageRows(
  rows: readonly unknown[],
  { first = null, last = null, offset = null }: Page,
  oneExtra: boolean,
): Pick<SelectResult, "hasNextPage" | "hasPreviousPage" | "items"> {
  const limit = first ?? last;
  const more = oneExtra && limit !== null && rows.length > limit;
  let items = more ? rows.slice(0, limit) : rows;
  if (first !== null && last !== null && last < first && items.length > last) items = items.slice(-last);
  // The last rows are read from the end.
  if (first === null && last !== null) items = items.toReversed();
  return {
    hasNextPage: first !== null && last === null && more,
    hasPreviousPage: last !== null && first === null ? more : offset !== null && offset !== 0,
    items,
  };
}
