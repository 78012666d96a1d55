/** The internals of @dataplan/pg's select steps, as far as Rowhouse relies on them. */
import { hasFixedType, isFixedSelect } from "./static-sql.ts";

/** What a step is given of another one's results. */
export interface Values {
  readonly isBatch: boolean;
  at(index: number): unknown;
  unaryValue(): unknown;
}

export interface Details {
  readonly count: number;
  readonly values: readonly Values[];
  readonly stream: unknown;
  readonly extra: { readonly eventEmitter: unknown };
  indexMap<Item>(callback: (index: number) => Item): Item[];
}

export interface Codec {
  toPg(value: unknown): unknown;
}

/** Encodes a parameter as @dataplan/pg does. */
export function encode(value: unknown, codec: Codec): unknown {
  return value === undefined || value === null ? null : codec.toPg(value);
}

/** A place in the SQL for the result of another step. */
export interface Placeholder {
  readonly dependencyIndex: number;
  readonly codec: Codec;
  readonly alreadyEncoded: boolean;
}

/** A step that makes pages; the ids say which results define the page. */
export interface Paged {
  readonly firstStepId: number | null;
  readonly lastStepId: number | null;
  readonly offsetStepId: number | null;
  readonly afterStepId: number | null;
  readonly beforeStepId: number | null;
  /** Results that are functions, which are called with the query's builder. */
  readonly applyDepIds: readonly number[];
  readonly dependencies: readonly unknown[];
}

/** The parts of a page that are written into a statement's text. */
export interface Page {
  readonly first: number | null | undefined;
  readonly last: number | null | undefined;
  readonly offset: number | null | undefined;
}

/** Runs a statement for each of `specs`; `common` is the same for all of them. */
export interface Resource {
  executeWithCache(specs: readonly Spec[], common: Common): Promise<{ readonly values: readonly unknown[] }>;
  executeWithoutCache(
    specs: readonly Spec[],
    common: Common,
  ): Promise<{ readonly values: readonly unknown[] }>;
}

export interface Spec {
  readonly context: unknown;
  readonly queryValues: readonly unknown[];
}

export interface Common {
  readonly text: string;
  readonly rawSqlValues: readonly unknown[];
  readonly identifierIndex: number | null;
  readonly name?: string | undefined;
  readonly eventEmitter: unknown;
  readonly useTransaction?: boolean;
}

export interface SelectStep extends Paged {
  readonly mode: string;
  readonly contextId: number;
  readonly resource: Resource;
  readonly fetchOneExtra: boolean;
  readonly placeholders: readonly Placeholder[];
  readonly deferreds: readonly unknown[];
  readonly streamDetailsDepIds: readonly number[] | null;
  readonly _meta: object;
  readonly operationPlan: { readonly operation: { readonly operation: string } };
}

/** A select that was inlined into another one; its result is a function that does so. */
export interface InlineStep extends Paged {
  readonly identifier: string;
  readonly staticInfo: { readonly mode: string };
}

/** Inlines a select into another one. */
export type AppliedFunction = (builder: unknown) => void;

/** All parts of a request that a statement's text depends on. */
export interface Inputs {
  readonly page: Page;
  /** Functions that add to the query; null where a result was none. */
  readonly applied: readonly (AppliedFunction | null)[];
  /** The number of parent rows: one, so that there is nothing to tell apart, or more. */
  readonly count: 1 | 2;
  /** For each placeholder, whether its value is the same for all parent rows. */
  readonly direct: readonly boolean[];
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function isPaged(step: object): boolean {
  const isIndex = (name: string): boolean => {
    const index: unknown = Reflect.get(step, name);
    return index === null || typeof index === "number";
  };
  return (
    ["firstStepId", "lastStepId", "offsetStepId", "afterStepId", "beforeStepId"].every(isIndex) &&
    Array.isArray(Reflect.get(step, "applyDepIds")) &&
    Array.isArray(Reflect.get(step, "dependencies"))
  );
}

function isPlaceholder(value: unknown): value is Placeholder {
  if (!isObject(value) || typeof Reflect.get(value, "dependencyIndex") !== "number") return false;
  const codec: unknown = Reflect.get(value, "codec");
  return (
    isObject(codec) &&
    typeof Reflect.get(codec, "toPg") === "function" &&
    hasFixedType(codec) &&
    typeof Reflect.get(value, "alreadyEncoded") === "boolean"
  );
}

/**
 * Whether `step`'s statement depends only on results of other steps, pages and selects inside it: no mutation, and no SQL that
 * becomes known only when it runs.
 */
export function isPlainSelect(step: object): step is SelectStep {
  const field = (name: string): unknown => Reflect.get(step, name);
  const [placeholders, deferreds, streams, resource] = [
    field("placeholders"),
    field("deferreds"),
    field("streamDetailsDepIds"),
    field("resource"),
  ];
  return (
    isPaged(step) &&
    (field("mode") === "normal" || field("mode") === "aggregate") &&
    typeof field("contextId") === "number" &&
    typeof field("fetchOneExtra") === "boolean" &&
    Array.isArray(placeholders) &&
    placeholders.every(isPlaceholder) &&
    Array.isArray(deferreds) &&
    deferreds.length === 0 &&
    isFixedSelect(step) &&
    (streams === null || Array.isArray(streams)) &&
    isObject(field("_meta")) &&
    isObject(field("operationPlan")) &&
    isObject(resource) &&
    typeof Reflect.get(resource, "executeWithCache") === "function" &&
    typeof Reflect.get(resource, "executeWithoutCache") === "function"
  );
}

/** Compares names, because the class is not exported. */
export function isInlineStep(step: unknown): step is InlineStep {
  if (!isObject(step)) return false;
  const known: unknown = Reflect.get(step.constructor, "$$export");
  return (
    isObject(known) &&
    Reflect.get(known, "moduleName") === "@dataplan/pg" &&
    Reflect.get(known, "exportName") === "PgSelectInlineApplyStep" &&
    typeof Reflect.get(step, "identifier") === "string" &&
    isObject(Reflect.get(step, "staticInfo")) &&
    isPaged(step)
  );
}

export function isPlainInline({ staticInfo }: InlineStep): boolean {
  const { mode } = staticInfo;
  return (mode === "normal" || mode === "aggregate") && isFixedSelect(staticInfo);
}

function unary(values: readonly Values[], index: number | null): unknown {
  return index === null ? undefined : values[index]?.unaryValue();
}

function isLimit(value: unknown): value is number | null | undefined {
  return value === undefined || value === null || Number.isSafeInteger(value);
}

/** The requested page; null if it begins or ends at a cursor, or is of another kind. */
export function pageOf(step: Paged, values: readonly Values[]): Page | null {
  const after = unary(values, step.afterStepId);
  const before = unary(values, step.beforeStepId);
  if ((after ?? null) !== null || (before ?? null) !== null) return null;
  const first = unary(values, step.firstStepId);
  const last = unary(values, step.lastStepId);
  const offset = unary(values, step.offsetStepId);
  return isLimit(first) && isLimit(last) && isLimit(offset) ? { first, last, offset } : null;
}
