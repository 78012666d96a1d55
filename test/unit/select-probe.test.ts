import { AsyncLocalStorage } from "node:async_hooks";
import { expect, it } from "vitest";
import { probeSelect } from "../../workers/graphile/sql-cache/select-probe.ts";
import { pageRows } from "../../workers/graphile/sql-cache/select-results.ts";
import { isSent } from "../../workers/graphile/sql-cache/select-send.ts";
import type {
  Codec,
  Common,
  Details,
  Inputs,
  Resource,
  SelectStep,
} from "../../workers/graphile/sql-cache/select-step.ts";

const codec: Codec = { toPg: (value) => String(value) };

const resource: Resource = {
  executeWithCache: () => Promise.reject(new Error("sent to PostgreSQL")),
  executeWithoutCache: () => Promise.reject(new Error("sent to PostgreSQL")),
};

/** A select by one value, at index 1 of what it depends on; what tells pages apart is at 2, and 3 is nobody's to read. */
const step: SelectStep = {
  mode: "normal",
  contextId: 0,
  resource,
  fetchOneExtra: true,
  placeholders: [{ dependencyIndex: 1, codec, alreadyEncoded: false }],
  deferreds: [],
  streamDetailsDepIds: null,
  dependencies: [{}, {}, {}, {}],
  _meta: {},
  operationPlan: { operation: { operation: "query" } },
  firstStepId: 2,
  lastStepId: null,
  offsetStepId: null,
  afterStepId: null,
  beforeStepId: null,
  applyDepIds: [],
};

const page = { first: 2, last: undefined, offset: undefined };
const inputs: Inputs = { page, applied: [], count: 1, direct: [true] };

interface More {
  /** What is sent besides the one parameter. */
  readonly values?: (details: Details) => unknown[];
  readonly meta?: object;
  readonly cursorDetails?: object;
  readonly firstRowLast?: boolean;
}

/** Does as a PgSelectStep does. */
const execute = ({ values = () => [], meta = {}, cursorDetails, firstRowLast = false }: More = {}) =>
  async function (this: SelectStep, details: Details): Promise<unknown[]> {
    const [placeholder] = this.placeholders;
    const value = placeholder?.codec.toPg(details.values[1]?.at(0));
    const rawSqlValues = [...values(details), value];
    const common = { text: `limit ${details.values[2]?.unaryValue()}`, rawSqlValues, identifierIndex: null };
    const specs = details.indexMap(() => ({ context: null, queryValues: [] }));
    const sent = await this.resource.executeWithCache(specs, { ...common, eventEmitter: undefined });
    return sent.values.map((rows) => {
      const list: readonly unknown[] = Array.isArray(rows) ? rows : [];
      const result = pageRows(firstRowLast ? list.toReversed() : list, page, true);
      return { ...result, cursorDetails, groupDetails: undefined, m: meta };
    });
  };

it("a text is separated from the values that go with it, which are not read", async () => {
  const found = await probeSelect(step, inputs, execute({ values: () => ["of the plan"] }));
  expect(found).toMatchObject({ text: "limit 2", values: [{ fixed: "of the plan" }, 0], queries: [] });
});

it("a step that reads a result not known to go into its text has no text", async () => {
  await expect(
    probeSelect(step, inputs, execute({ values: ({ values }) => [values[3]?.unaryValue()] })),
  ).rejects.toThrow("not available outside a request");
  const values = ({ values: all }: Details): unknown[] => [Reflect.get(Object(all[3]), "isBatch")];
  await expect(probeSelect(step, inputs, execute({ values }))).rejects.toThrow(
    "not available outside a request",
  );
});

it("a result used for both a page and a parameter is left alone", async () => {
  const both = { ...step, firstStepId: 1 };
  await expect(probeSelect(both, inputs, execute())).rejects.toThrow("a result has two uses");
});

it("a step that encodes its parameters or builds its pages in an unknown way has no text", async () => {
  const twice = ({ values }: Details): unknown[] => [values[1]?.at(0)];
  await expect(probeSelect(step, inputs, execute({ values: twice }))).rejects.toThrow(
    "a value has an unknown origin",
  );
  await expect(probeSelect(step, inputs, execute({ firstRowLast: true }))).rejects.toThrow(
    "in an unknown way",
  );
});

it("code that builds a text finds no request, even while one is in progress", async () => {
  const requests = new AsyncLocalStorage<string>();
  const values = (): unknown[] => [requests.getStore()];
  const found = await requests.run("a request", () => probeSelect(step, inputs, execute({ values })));
  expect(found.values).toEqual([{ fixed: undefined }, 0]);
});

it("nothing can be left in the parts of a text that requests share", async () => {
  const details = { meta: {}, selectIndexes: [1], cursorDetails: { digest: "d", indicies: [{ index: 1 }] } };
  const given = { note: {}, joinDetailsFor3: { ...details, meta: { subqueryDetailsFor4: { meta: {} } } } };
  const cursorDetails = { digest: "d", indicies: [{ index: 2, codec: {} }] };
  const found = await probeSelect(step, inputs, execute({ meta: given, cursorDetails }));
  expect(found.cursorDetails).toEqual(cursorDetails);
  // What a plan noted itself is the plan's, as it is without a text.
  expect(Object.keys(found.inlinedMeta)).toEqual(["joinDetailsFor3"]);
  const thawed = (value: unknown): boolean =>
    typeof value === "object" &&
    value !== null &&
    (!Object.isFrozen(value) || Object.values(value).some(thawed));
  expect(thawed(found.inlinedMeta["joinDetailsFor3"])).toBe(false);
  expect(Object.isFrozen(found.cursorDetails)).toBe(true);
  expect(Object.isFrozen(cursorDetails.indicies)).toBe(true);
  expect(Object.isFrozen(cursorDetails.indicies[0])).toBe(true);
});

it("a text is compared with what the original sends, down to the last parameter", async () => {
  const text = await probeSelect(step, inputs, execute());
  const one = (value: unknown) => ({ isBatch: false, at: () => value, unaryValue: () => value });
  const details: Details = {
    count: 1,
    values: [one({}), one(7), one(2), one(null)],
    stream: null,
    extra: { eventEmitter: undefined },
    indexMap: (callback) => [callback(0)],
  };
  const common: Common = {
    text: "limit 2",
    rawSqlValues: ["7"],
    identifierIndex: null,
    eventEmitter: undefined,
    useTransaction: false,
  };
  const specs = [{ context: {}, queryValues: [] }];
  const isSame = (more: Partial<Common>, sent = specs): boolean =>
    isSent({ step, text, inputs }, details, sent, { ...common, ...more });
  expect(isSame({})).toBe(true);
  expect(isSame({ text: "limit 3" })).toBe(false);
  expect(isSame({ rawSqlValues: ["8"] })).toBe(false);
  expect(isSame({ rawSqlValues: ["7", "8"] })).toBe(false);
  expect(isSame({ name: "another" })).toBe(false);
  expect(isSame({ identifierIndex: 1 })).toBe(false);
  expect(isSame({ useTransaction: true })).toBe(false);
  expect(isSame({}, [...specs, ...specs])).toBe(false);
});
