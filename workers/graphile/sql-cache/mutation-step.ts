/** The internals of @dataplan/pg's insert and update steps, as far as Rowhouse relies on them. */

import type { Codec, Values } from "./select-step.ts";
import { hasFixedType } from "./static-sql.ts";

export interface Column {
  readonly name: string;
  readonly depId: number;
  readonly pgCodec: Codec;
}

export interface Mutation {
  readonly context: unknown;
  readonly text: string;
  readonly values: readonly unknown[];
}

export interface Changed {
  readonly rows: readonly unknown[];
  readonly rowCount: number | null;
  readonly notices: unknown;
}

export interface ChangeStep {
  readonly alias: unknown;
  readonly contextId: number;
  readonly resource: {
    readonly codec: { readonly attributes: Readonly<Record<string, { readonly codec: Codec }>> };
    executeMutation(mutation: Mutation): Promise<Changed>;
  };
  readonly attributes: readonly Column[];
  /** The columns by which an update finds its row. */
  readonly getBys?: readonly Column[];
  /** How each of `getBys` is encoded. */
  readonly finalizeResults: {
    readonly queryValueDetailsBySymbol?: ReadonlyMap<symbol, object>;
  };
  readonly applyDepIds: readonly number[];
}

export interface Details {
  readonly values: readonly Values[];
  indexMap<Item>(callback: (index: number) => Item): Item[];
}

/** Passed to the functions of input fields, which can decide only which columns get which values, not the SQL. */
export interface Builder {
  set(name: string, value: unknown): void;
  setMeta(key: PropertyKey, value: unknown): void;
}

/** What a request sets, column by column. */
export interface RecordedSet {
  /** The names as one text. */
  readonly key: string;
  readonly names: readonly string[];
  /** Encoded as they are sent, because encoding a value twice may yield different results. */
  readonly parameters: readonly unknown[];
  readonly meta: Readonly<Record<PropertyKey, unknown>>;
}

export function isColumns(value: unknown): value is readonly Column[] {
  return (
    Array.isArray(value) &&
    value.every(
      (column: unknown) =>
        typeof column === "object" &&
        column !== null &&
        ["name", "depId", "pgCodec"].every((field) => field in column),
    )
  );
}

export function isChangeStep(step: object, isUpdate: boolean): step is ChangeStep {
  const resource: unknown = Reflect.get(step, "resource");
  const codec: unknown = Reflect.get(Object(resource), "codec");
  const attributes: unknown = Reflect.get(Object(codec), "attributes");
  return (
    typeof Reflect.get(step, "contextId") === "number" &&
    Array.isArray(Reflect.get(step, "applyDepIds")) &&
    isColumns(Reflect.get(step, "attributes")) &&
    isColumns(Reflect.get(step, "getBys")) === isUpdate &&
    Reflect.get(Object(Reflect.get(step, "finalizeResults")), "queryValueDetailsBySymbol") instanceof Map ===
      isUpdate &&
    typeof Reflect.get(Object(resource), "executeMutation") === "function" &&
    typeof attributes === "object" &&
    attributes !== null &&
    Object.values(attributes).every((column: unknown) => hasFixedType(Reflect.get(Object(column), "codec")))
  );
}
