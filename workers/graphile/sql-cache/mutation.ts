/** Builds the SQL of inserts and updates once for each set of columns instead of for every request. */
import { isDeepStrictEqual } from "node:util";
import { PgInsertSingleStep, PgUpdateSingleStep } from "postgraphile/@dataplan/pg";
import { SafeError, setter } from "postgraphile/grafast";
import { $$toSQL } from "postgraphile/pg-sql2";
import {
  type Builder,
  type Changed,
  type ChangeStep,
  type Details,
  isChangeStep,
  type Mutation,
  type RecordedSet,
} from "./mutation-step.ts";
import { outsideRequests } from "./probe-inputs.ts";
import { type Execute, replaceExecute } from "./replace-execute.ts";
import { type Codec, encode, type Values } from "./select-step.ts";

/** Texts kept per step, limited because the client chooses which columns are set. */
const maxTexts = 16;

/** A step with its texts, by the columns that are set. */
interface Change {
  readonly step: ChangeStep;
  readonly texts: Map<string, string>;
  /** Whether the result is null if no row was found. */
  readonly isUpdate: boolean;
}

/** By step, and so kept as long as its plan; null for a step that is left alone. */
const changes = new WeakMap<object, Change | null>();

/**
 * Replaces the methods of PgInsertSingleStep and PgUpdateSingleStep (@dataplan/pg 1.1.2) that build their SQL for each request. It
 * is made of the plan, and of the names of the columns that are set: what sets them is called for every request as before, and has
 * no other way into the text. The text for some names is the original's, built without any value. Returns false where a
 * method is another, whose steps are left alone.
 */
export function rememberChangeTexts(): boolean {
  const inserts = rememberTexts(PgInsertSingleStep.prototype, false);
  return rememberTexts(PgUpdateSingleStep.prototype, true) && inserts;
}

function rememberTexts(prototype: object, isUpdate: boolean): boolean {
  return replaceExecute<Details>(prototype, (original) => {
    const changeOf = (step: object): Change | null => {
      const known = changes.get(step);
      if (known !== undefined) return known;
      const isKnown = Object.getPrototypeOf(step) === prototype && isChangeStep(step, isUpdate);
      const change = isKnown && isPlain(step, original) ? { step, texts: new Map(), isUpdate } : null;
      changes.set(step, change);
      return change;
    };
    return async function execute(this: object, details: Details): Promise<unknown> {
      const change = changeOf(this);
      if (change === null) return original.call(this, details);
      return details.indexMap((index) => changeOne(change, details.values, index, original));
    };
  });
}

/** Whether the plan itself contains no values, so that the parameters are exactly the columns', in their order. */
function isPlain(step: ChangeStep, original: Execute<Details>): boolean {
  const [name] = Object.keys(step.resource.codec.attributes);
  return name !== undefined && textFor(step, [name], original) !== null;
}

/** The SQL that the step sends to set `names`, built outside any request; null if it has parameters other than these. */
function textFor(step: ChangeStep, names: readonly string[], original: Execute<Details>): string | null {
  const { getBys = [], contextId } = step;
  let sent: Mutation | undefined;
  const executeMutation = async (mutation: Mutation): Promise<Changed> => {
    sent = mutation;
    return { rows: [], rowCount: 1, notices: [] };
  };
  const marks = names.map((name) => ({ name }));
  const apply = (builder: Builder): void => {
    for (const [index, name] of names.entries()) builder.set(name, marks[index]);
  };
  const values: Values[] = [];
  values[contextId] = always(null);
  for (const { depId } of getBys) values[depId] = always({ depId });
  const own = withoutCodecs(withRecordedSet(step, names, values.length, executeMutation));
  values.push(always(apply));
  const details: Details = { values, indexMap: (callback) => [callback(0)] };
  const made = outsideRequests((): unknown => original.call(own, details));
  void ended(made);
  if (sent === undefined) return null;
  const expected = [...marks, ...getBys.map(({ depId }) => values[depId]?.unaryValue())];
  const isPlainly =
    sent.values.length === expected.length && sent.values.every((one, index) => one === expected[index]);
  return isPlainly ? sent.text : null;
}

/** Swallows errors of the trial run: whatever fails here fails for the request too, which reports it. */
async function ended(made: unknown): Promise<void> {
  const [list] = await Promise.allSettled([made]);
  if (list.status === "fulfilled" && Array.isArray(list.value)) await Promise.allSettled(list.value);
}

function always(value: unknown): Values {
  return { isBatch: false, at: () => value, unaryValue: () => value };
}

async function changeOne(
  change: Change,
  values: readonly Values[],
  index: number,
  original: Execute<Details>,
): Promise<unknown> {
  const { step, texts, isUpdate } = change;
  const { resource, alias } = step;
  const context = values[step.contextId]?.at(index);
  const names: string[] = [];
  const parameters: unknown[] = [];
  let key = "";
  const set = (name: string, value: unknown, codec: Codec): void => {
    parameters.push(encode(value, codec));
    names.push(name);
    // No name in PostgreSQL contains a NUL.
    key += `${name}\0`;
  };
  for (const { depId, name, pgCodec } of step.attributes) {
    const value = values[depId]?.at(index);
    // Null is sent, undefined is skipped.
    if (value !== undefined) set(name, value, pgCodec);
  }
  const meta: Record<PropertyKey, unknown> = Object.create(null);
  const builder = {
    alias,
    [$$toSQL]: () => alias,
    setMeta(key: PropertyKey, value: unknown) {
      meta[key] = value;
    },
    getMetaRaw: (key: PropertyKey) => meta[key],
    set(name: string, value: unknown) {
      const codec = resource.codec.attributes[name]?.codec;
      if (codec === undefined) throw new Error(`Attribute ${name} not recognized on ${resource}`);
      set(name, value, codec);
    },
    setBuilder() {
      return setter(this);
    },
  };
  for (const applyDepId of step.applyDepIds) {
    const applied = values[applyDepId]?.unaryValue();
    for (const apply of Array.isArray(applied) ? applied : [applied]) apply?.(builder);
  }
  if (isUpdate && names.length === 0) {
    throw new SafeError("Attempted to update a record, but no new values were specified.");
  }
  const text = texts.get(key);
  if (text === undefined) return build(change, { key, names, parameters, meta }, { values, index }, original);
  const { rows, rowCount, notices } = await resource.executeMutation({
    context,
    text,
    // A copy, because whoever kept the builder may set more while this is on its way.
    values: [...parameters, ...findingBy(step, values, index)],
  });
  if (isUpdate && rowCount === 0) return null;
  return Object.assign(Object.create(null), { m: meta, t: rows[0] ?? [], c: rowCount, n: notices });
}

function findingBy({ getBys = [] }: ChangeStep, values: readonly Values[], index: number): unknown[] {
  return getBys.map(({ depId, pgCodec }) => encode(values[depId]?.at(index), pgCodec));
}

/**
 * The original's result for the same columns, without calling anything of the request a second time. Keeps the text if it is what
 * was sent; a step that sends anything else is left alone from then on.
 */
async function build(
  { step, texts }: Change,
  { key, names, parameters, meta }: RecordedSet,
  { values, index }: { readonly values: readonly Values[]; readonly index: number },
  original: Execute<Details>,
): Promise<unknown> {
  const text = textFor(step, names, original);
  const executeMutation = (mutation: Mutation): Promise<Changed> => {
    const columns = mutation.values.slice(0, names.length);
    if (mutation.text === text && isDeepStrictEqual(columns, parameters)) {
      if (texts.size >= maxTexts) texts.clear();
      texts.set(key, text);
    } else changes.set(step, null);
    return step.resource.executeMutation(mutation);
  };
  const tell = (builder: Builder): void => {
    for (const [index, name] of names.entries()) builder.set(name, parameters[index]);
    for (const name of Reflect.ownKeys(meta)) builder.setMeta(name, meta[name]);
  };
  const made = await original.call(withRecordedSet(step, names, values.length, executeMutation), {
    values: [...values, always(tell)],
    indexMap: (callback) => [callback(index)],
  });
  return Array.isArray(made) ? made[0] : made;
}

/** `step` with its inputs replaced by `names` and already encoded values, and with `executeMutation` in place of its own. */
function withRecordedSet(
  step: ChangeStep,
  names: readonly string[],
  applyDepId: number,
  executeMutation: (mutation: Mutation) => Promise<Changed>,
): ChangeStep {
  const { codec } = step.resource;
  const written = names.map((name) => [
    name,
    { codec: Object.create(codec.attributes[name]?.codec ?? null, { toPg: { value: asItIs } }) },
  ]);
  const resource: unknown = Object.create(step.resource, {
    executeMutation: { value: executeMutation },
    codec: { value: { attributes: Object.fromEntries(written) } },
  });
  return Object.create(step, {
    attributes: { value: [] },
    applyDepIds: { value: [applyDepId] },
    resource: { value: resource },
  });
}

/** `step` with the values by which an update finds its row sent unencoded as well. */
function withoutCodecs(step: ChangeStep): ChangeStep {
  const { finalizeResults } = step;
  const { queryValueDetailsBySymbol: details } = finalizeResults;
  if (details === undefined) return step;
  const written = new Map([...details].map(([symbol, one]) => [symbol, { ...one, processor: asItIs }]));
  return Object.create(step, {
    finalizeResults: { value: { ...finalizeResults, queryValueDetailsBySymbol: written } },
  });
}

const asItIs = (value: unknown): unknown => value;
