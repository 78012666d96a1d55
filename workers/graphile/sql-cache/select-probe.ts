/** Builds a select's statement out of reach of any request. */
import { outsideRequests, ProbeInputs, StandIn, standInCodecs } from "./probe-inputs.ts";
import type { Execute } from "./replace-execute.ts";
import { pageRows, type SelectResult } from "./select-results.ts";
import type {
  AppliedFunction,
  Codec,
  Common,
  Details,
  InlineStep,
  Inputs,
  Page,
  SelectStep,
  Spec,
} from "./select-step.ts";

/** A statement without any request's values. */
export interface SelectText {
  readonly text: string;
  readonly name: string | undefined;
  readonly identifierIndex: number | null;
  /** For each parameter, the index of its placeholder, or the fixed value that the plan contains. */
  readonly values: readonly (number | { readonly fixed: unknown })[];
  /** The values by which the rows of different parent rows are told apart. */
  readonly queries: readonly { readonly dependency: number; readonly codec: Codec }[];
  readonly cursorDetails: object | undefined;
  readonly groupDetails: object | undefined;
  readonly inlinedMeta: Readonly<Record<string, unknown>>;
}

/**
 * The function that `step` returns for `page` and `applied`, made by its own `execute` out of reach of any request. Throws if it
 * depends on anything else.
 */
export function inlineFunction(
  step: InlineStep,
  { page, applied }: Pick<Inputs, "page" | "applied">,
  execute: Execute<Details>,
): AppliedFunction {
  const reach = new ProbeInputs(step.dependencies.length);
  reach.page(step, page);
  reach.apply(step, applied);
  const made = outsideRequests((): unknown => execute.call(step, reach.details(1)));
  const [apply]: readonly unknown[] = Array.isArray(made) ? made : [];
  if (!isApplied(apply)) throw new Error("the step returned no function");
  return apply;
}

function isApplied(value: unknown): value is AppliedFunction {
  return typeof value === "function";
}

/** Enough rows to see them cut off and reversed as for a request; more would only take longer. */
const maxSampledRows = 1_000;

function sampleRows({ first, last }: Page): unknown[][][] {
  const limit = Math.min(Math.max(first ?? last ?? 1, last ?? 1, 1), maxSampledRows);
  return [0, 1, 2, limit, limit + 1, limit + 2].map((length) =>
    Array.from({ length }, (_, index) => [String(index)]),
  );
}

/**
 * The statement that the step's own `execute` sends for `inputs`. It is called with marks in place of values, and cannot reach
 * anything else of a request. Rejects if it tries to, or does not behave as known.
 */
export function probeSelect(
  step: SelectStep,
  inputs: Inputs,
  execute: Execute<Details>,
): Promise<SelectText> {
  return outsideRequests(probe, step, inputs, execute);
}

async function probe(step: SelectStep, inputs: Inputs, execute: Execute<Details>): Promise<SelectText> {
  const reach = new ProbeInputs(step.dependencies.length);
  reach.set(step.contextId, "context");
  reach.page(step, inputs.page);
  for (const index of step.streamDetailsDepIds ?? []) reach.set(index, null);
  reach.apply(step, inputs.applied);
  step.placeholders.forEach((placeholder, index) => {
    reach.standIn(placeholder, inputs.direct[index] === false);
  });
  const samples = sampleRows(inputs.page);
  let sent: { readonly spec: Spec; readonly common: Common; readonly marks: readonly StandIn[] } | undefined;
  const send = async ([spec]: readonly Spec[], common: Common): Promise<{ values: unknown[] }> => {
    if (spec === undefined || sent !== undefined)
      throw new Error("the step executes its statement in an unknown way");
    sent = { spec, common, marks: [...reach.standIns] };
    return { values: samples };
  };
  const codecs = standInCodecs();
  const marked = Object.create(step, {
    placeholders: { value: step.placeholders.map((one) => ({ ...one, codec: codecs(one.codec) })) },
    resource: {
      value: Object.create(step.resource, {
        executeWithCache: { value: send },
        executeWithoutCache: { value: send },
      }),
    },
  });
  const results: unknown = await execute.call(marked, reach.details(inputs.count));
  if (sent === undefined) throw new Error("nothing was sent");
  const first = assertPages(results, samples, inputs.page, step.fetchOneExtra);
  const { text, name, identifierIndex, rawSqlValues } = sent.common;
  return {
    text,
    name,
    identifierIndex,
    values: parametersOf(step, inputs, sent.marks, rawSqlValues),
    queries: queriesOf(sent.spec),
    cursorDetails: frozenDetails(first.cursorDetails),
    groupDetails: frozenDetails(first.groupDetails),
    inlinedMeta: frozenMeta(first.m),
  };
}

function parametersOf(
  { placeholders }: SelectStep,
  { direct }: Inputs,
  marks: readonly StandIn[],
  values: readonly unknown[],
): SelectText["values"] {
  const ones = placeholders.flatMap((placeholder, index) =>
    direct[index] === true ? [{ ...placeholder, index }] : [],
  );
  // Marks of placeholders with a value for each row follow behind these.
  const given = marks.slice(0, ones.length);
  const asExpected = ones.every(
    ({ dependencyIndex, codec, alreadyEncoded }, at) =>
      given[at]?.dependency === dependencyIndex && given[at].codec === (alreadyEncoded ? null : codec),
  );
  if (!asExpected) throw new Error("placeholders are encoded in an unknown way");
  return values.map((value) => {
    if (!(value instanceof StandIn)) return { fixed: value };
    const index = ones[given.indexOf(value)]?.index;
    if (index === undefined) throw new Error("a value has an unknown origin");
    return index;
  });
}

function queriesOf({ queryValues }: Spec): SelectText["queries"] {
  return queryValues.map((value) => {
    if (!(value instanceof StandIn) || value.codec === null) throw new Error("a value has an unknown origin");
    return { dependency: value.dependency, codec: value.codec };
  });
}

/** The first of `results`; throws if any differs from what `pageRows` makes of its sample. */
function assertPages(
  results: unknown,
  samples: readonly (readonly unknown[])[],
  page: Page,
  oneExtra: boolean,
): SelectResult {
  const list: readonly unknown[] = Array.isArray(results) ? results : [];
  const made = list.filter(isResult);
  const same = samples.every((rows, index) => {
    const found = made[index];
    const { hasNextPage, hasPreviousPage, items } = pageRows(rows, page, oneExtra);
    return (
      found?.hasNextPage === hasNextPage &&
      found.hasPreviousPage === hasPreviousPage &&
      found.items.length === items.length &&
      items.every((item, at) => item === found.items[at]) &&
      Object.keys(found).join() === "hasNextPage,hasPreviousPage,items,cursorDetails,groupDetails,m"
    );
  });
  const [first] = made;
  if (first === undefined || list.length !== samples.length || !same)
    throw new Error("pages are built in an unknown way");
  return first;
}

function isResult(value: unknown): value is SelectResult {
  return typeof value === "object" && value !== null && "items" in value && Array.isArray(value.items);
}

/** Frozen, because requests of many tenants share it from here on; an attempt to leave something in it fails. */
function frozenDetails(details: object | undefined): object | undefined {
  if (details === undefined) return undefined;
  for (const part of Object.values(details)) {
    if (Array.isArray(part)) for (const item of part) Object.freeze(item);
    Object.freeze(part);
  }
  return Object.freeze(details);
}

const inlinedKey = /^(?:joinDetailsFor|subqueryDetailsFor)\d+$/;

function frozenMeta(meta: object): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [name, details] of Object.entries(meta)) {
    if (!inlinedKey.test(name) || typeof details !== "object" || details === null) continue;
    for (const [part, value] of Object.entries(details)) {
      if (part === "cursorDetails" || part === "groupDetails") frozenDetails(value ?? undefined);
      else if (part === "meta") frozenMeta(Object.freeze(value));
      else Object.freeze(value);
    }
    kept[name] = Object.freeze(details);
  }
  return kept;
}
