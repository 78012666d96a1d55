/** The SQL of selects, built once instead of for every request. */
import { PgSelectStep } from "postgraphile/@dataplan/pg";
import { type Execute, replaceExecute } from "./replace-execute.ts";
import { inlineFunction, probeSelect, type SelectText } from "./select-probe.ts";
import { isSent, send } from "./select-send.ts";
import {
  type AppliedFunction,
  type Common,
  type Details,
  type Inputs,
  isInlineStep,
  isPlainInline,
  isPlainSelect,
  type Paged,
  pageOf,
  type SelectStep,
  type Spec,
  type Values,
} from "./select-step.ts";

/** Texts kept per step. A text is 0.3 to 5 kB, and the client chooses how many rows are asked for. */
const maxTexts = 8;

/** Requested once; being built; not to be kept; or available. */
type Entry = "once" | "building" | "never" | SelectText;

interface Select {
  readonly step: SelectStep;
  readonly texts: Map<string, Entry>;
}

/** By step, and so kept as long as its plan; null for a step that is left alone. */
const selects = new WeakMap<object, Select | null>();
/** By step: its functions, each for one page. */
const inlines = new WeakMap<object, Map<string, AppliedFunction> | null>();
/** A function of the above, and the number that stands for it in keys. */
const numbers = new WeakMap<object, number>();
let lastNumber = 0;

/**
 * Replaces the method of PgSelectStep (@dataplan/pg 1.1.2) that builds its SQL for each request, and that of selects inside it. Nearly
 * all of a statement's text is its plan's; see `Inputs` for the rest. A text that is asked for a second time is built out of reach of
 * any request (`select-probe.ts`), compared with what the original sends for that one, and sent from then on with each request's own
 * values. Where SQL comes from a function that is called for the request, as filters and orders in variables do, or a page begins
 * at a cursor, nothing is kept. Returns false, and leaves the steps alone, where their method is another.
 */
export function rememberSelectTexts(): boolean {
  const { prototype } = PgSelectStep;
  return replaceExecute<Details>(prototype, (original) => {
    const selectOf = (step: object): Select | null => {
      const known = selects.get(step);
      if (known !== undefined) return known;
      const plain = Object.getPrototypeOf(step) === prototype && isPlainSelect(step);
      const select = plain ? { step, texts: new Map() } : null;
      selects.set(step, select);
      return select;
    };
    return function execute(this: object, details: Details): unknown {
      const select = selectOf(this);
      const inputs = select === null ? null : inputsOf(select.step, details);
      if (select === null || inputs === null) return original.call(this, details);
      const { step, texts } = select;
      const key = keyOf(inputs);
      const entry = texts.get(key);
      if (typeof entry === "object") return send(step, entry, inputs, details);
      if (entry === "once") {
        texts.set(key, "building");
        const keep = (built: Entry): void => void texts.set(key, built);
        return build({ step, inputs, keep }, details, original);
      }
      if (entry === undefined) {
        if (texts.size >= maxTexts) texts.clear();
        texts.set(key, "once");
      }
      return original.call(this, details);
    };
  });
}

/** The class is not exported, so it is taken from the first instance, found in the select that it was inlined into. */
function rememberInlined(step: unknown): void {
  if (!isInlineStep(step)) return;
  replaceExecute<Details>(Object.getPrototypeOf(step), (original) => {
    const functionsOf = (inline: object): Map<string, AppliedFunction> | null => {
      const known = inlines.get(inline);
      if (known !== undefined) return known;
      const functions = isInlineStep(inline) && isPlainInline(inline) ? new Map() : null;
      inlines.set(inline, functions);
      return functions;
    };
    return function execute(this: object, details: Details): unknown {
      const functions = functionsOf(this);
      if (functions === null || details.count !== 1 || !isInlineStep(this))
        return original.call(this, details);
      const page = pageOf(this, details.values);
      const applied = page === null ? null : appliedOf(this, details.values);
      if (page === null || applied === null) return original.call(this, details);
      const key = `${page.first} ${page.last} ${page.offset} ${applied.map(numberOf).join(" ")}`;
      const known = functions.get(key);
      if (known !== undefined) return [known];
      let made: AppliedFunction;
      try {
        made = inlineFunction(this, { page, applied }, original);
      } catch {
        inlines.set(this, null);
        return original.call(this, details);
      }
      if (functions.size >= maxTexts) functions.clear();
      functions.set(key, made);
      numbers.set(made, ++lastNumber);
      return [made];
    };
  });
}

function numberOf(applied: AppliedFunction | null): number | undefined {
  return applied === null ? 0 : numbers.get(applied);
}

/** The functions that add to `step`'s query; null if one is not known to be the same for every request. */
function appliedOf(step: Paged, values: readonly Values[]): Inputs["applied"] | null {
  const list: (AppliedFunction | null)[] = [];
  for (const index of step.applyDepIds) {
    const applied = values[index]?.unaryValue();
    if (applied === undefined || applied === null) list.push(null);
    else if (isKept(applied)) list.push(applied);
    else {
      rememberInlined(step.dependencies[index]);
      return null;
    }
  }
  return list;
}

function isKept(value: unknown): value is AppliedFunction {
  return typeof value === "function" && numbers.has(value);
}

/** What the text for `details` depends on; null if that is unknown, or nothing is to be sent. */
function inputsOf(step: SelectStep, details: Details): Inputs | null {
  const { values, stream } = details;
  const page = pageOf(step, values);
  if (stream !== null || page === null || page.first === 0 || page.last === 0) return null;
  for (const index of step.streamDetailsDepIds ?? []) {
    if ((values[index]?.unaryValue() ?? null) !== null) return null;
  }
  const applied = appliedOf(step, values);
  if (applied === null) return null;
  const count = details.count === 1 ? 1 : 2;
  const direct = step.placeholders.map(
    ({ dependencyIndex }) => count === 1 || values[dependencyIndex]?.isBatch === false,
  );
  return { page, applied, count, direct };
}

function keyOf({ page, applied, count, direct }: Inputs): string {
  const { first, last, offset } = page;
  let key = `${count} ${first} ${last} ${offset}`;
  for (const one of applied) key += ` ${numberOf(one)}`;
  if (count !== 1) for (const one of direct) key += one ? " one" : " many";
  return key;
}

interface Building {
  readonly step: SelectStep;
  readonly inputs: Inputs;
  readonly keep: (entry: Entry) => void;
}

/**
 * The original's result for this request. Also calls `keep` with the text for `inputs` if it equals what was sent, otherwise with
 * the reason why there is none.
 */
async function build(
  { step, inputs, keep }: Building,
  details: Details,
  original: Execute<Details>,
): Promise<unknown> {
  const text = await probeSelect(step, inputs, original).catch(() => null);
  if (text === null) {
    keep("never");
    return await original.call(step, details);
  }
  let executed = false;
  const isSame = (specs: readonly Spec[], common: Common): boolean => {
    try {
      return isSent({ step, text, inputs }, details, specs, common);
    } catch {
      // If a codec cannot encode a value twice, the request must not fail for it.
      return false;
    }
  };
  const watch = (method: "executeWithCache" | "executeWithoutCache") => ({
    value: (specs: readonly Spec[], common: Common): unknown => {
      executed = true;
      keep(isSame(specs, common) ? text : "never");
      return step.resource[method](specs, common);
    },
  });
  const resource: unknown = Object.create(step.resource, {
    executeWithCache: watch("executeWithCache"),
    executeWithoutCache: watch("executeWithoutCache"),
  });
  try {
    return await original.call(Object.create(step, { resource: { value: resource } }), details);
  } finally {
    // A value could not be encoded, such as an invalid date.
    if (!executed) keep("once");
  }
}
