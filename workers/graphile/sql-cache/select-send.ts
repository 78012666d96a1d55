/** Sends a select's statement that was built before with the values of a request. */
import { isDeepStrictEqual } from "node:util";
import type { SelectText } from "./select-probe.ts";
import { pageRows, type SelectResult } from "./select-results.ts";
import {
  type Common,
  type Details,
  encode,
  type Inputs,
  type Placeholder,
  type SelectStep,
  type Spec,
  type Values,
} from "./select-step.ts";

function parametersOf(
  { placeholders }: SelectStep,
  text: SelectText,
  { direct }: Inputs,
  values: readonly Values[],
): unknown[] {
  const encoded = placeholders.map((placeholder, index) =>
    direct[index] === true ? encodeFor(placeholder, values[placeholder.dependencyIndex]?.at(0)) : undefined,
  );
  return text.values.map((value) => (typeof value === "number" ? encoded[value] : value.fixed));
}

function encodeFor({ alreadyEncoded, codec }: Placeholder, value: unknown): unknown {
  return alreadyEncoded ? (value ?? null) : encode(value, codec);
}

const noValues: readonly unknown[] = Object.freeze([]);

function queryValuesOf(
  { identifierIndex, queries }: SelectText,
  values: readonly Values[],
  index: number,
): readonly unknown[] {
  if (identifierIndex === null) return noValues;
  return queries.map(({ dependency, codec }) => encode(values[dependency]?.at(index), codec));
}

/** What the original would return, with `text` in place of a newly built one. */
export async function send(
  step: SelectStep,
  text: SelectText,
  inputs: Inputs,
  { values, extra, indexMap }: Details,
): Promise<unknown[]> {
  const { resource, contextId, operationPlan } = step;
  const { identifierIndex, cursorDetails, groupDetails } = text;
  const context = values[contextId]?.unaryValue();
  const specs = indexMap((index): Spec => ({ context, queryValues: queryValuesOf(text, values, index) }));
  const common: Common = {
    text: text.text,
    rawSqlValues: parametersOf(step, text, inputs, values),
    identifierIndex,
    name: text.name,
    eventEmitter: extra.eventEmitter,
    useTransaction: false,
  };
  const sent =
    operationPlan.operation.operation === "query"
      ? resource.executeWithCache(specs, common)
      : resource.executeWithoutCache(specs, common);
  return (await sent).values.map((rows): unknown => {
    if (!Array.isArray(rows)) return rows;
    const m: object = Object.assign(Object.create(null), step._meta, text.inlinedMeta);
    return {
      ...pageRows(rows, inputs.page, step.fetchOneExtra),
      cursorDetails,
      groupDetails,
      m,
    } satisfies SelectResult;
  });
}

/** Whether `text` would have sent the same statement, down to the last parameter. */
export function isSent(
  { step, text, inputs }: { readonly step: SelectStep; readonly text: SelectText; readonly inputs: Inputs },
  { values, indexMap }: Details,
  specs: readonly Spec[],
  common: Common,
): boolean {
  const own = indexMap((index) => queryValuesOf(text, values, index));
  return (
    common.text === text.text &&
    common.name === text.name &&
    common.identifierIndex === text.identifierIndex &&
    common.useTransaction === false &&
    isDeepStrictEqual(common.rawSqlValues, parametersOf(step, text, inputs, values)) &&
    isDeepStrictEqual(
      specs.map(({ queryValues }) => queryValues),
      own,
    )
  );
}
