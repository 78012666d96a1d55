/** Stand-ins for the results of other steps, for building a select's statement without a request. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { AppliedFunction, Codec, Details, Page, Paged, Placeholder, Values } from "./select-step.ts";

/** Runs code outside any request, so that code that a plugin left in a plan finds none here. */
export const outsideRequests = AsyncLocalStorage.snapshot();

/** Stands for a value of a request. */
export class StandIn {
  readonly dependency: number;
  codec: Codec | null = null;
  constructor(dependency: number) {
    this.dependency = dependency;
  }
}

/** For results that a text may not depend on. */
const outOfReach: Values = {
  get isBatch(): never {
    throw new Error("not available outside a request");
  },
  at(): never {
    throw new Error("not available outside a request");
  },
  unaryValue(): never {
    throw new Error("not available outside a request");
  },
};

/** The results of other steps that a builder may see here; none of them comes from a request. */
export class ProbeInputs {
  readonly values: Values[];
  readonly #known = new Map<number, unknown>();
  /** Marks that were handed out for placeholders, in order. */
  readonly standIns: StandIn[] = [];

  constructor(dependencies: number) {
    this.values = Array.from({ length: dependencies }, () => outOfReach);
  }

  /** Throws if a result is used for two things. */
  set(index: number | null, value: unknown): void {
    if (index === null) return;
    if (this.#known.has(index) && !Object.is(this.#known.get(index), value))
      throw new Error("a result has two uses");
    this.#known.set(index, value);
    this.values[index] = { isBatch: false, at: () => value, unaryValue: () => value };
  }

  standIn({ dependencyIndex }: Placeholder, isBatch: boolean): void {
    this.set(dependencyIndex, isBatch ? "many" : "one");
    const at = (): StandIn => {
      const mark = new StandIn(dependencyIndex);
      this.standIns.push(mark);
      return mark;
    };
    this.values[dependencyIndex] = { isBatch, at, unaryValue: outOfReach.unaryValue };
  }

  page(step: Paged, { first, last, offset }: Page): void {
    this.set(step.firstStepId, first);
    this.set(step.lastStepId, last);
    this.set(step.offsetStepId, offset);
    this.set(step.afterStepId, null);
    this.set(step.beforeStepId, null);
  }

  apply({ applyDepIds }: Paged, applied: readonly (AppliedFunction | null)[]): void {
    applied.forEach((apply, index) => {
      this.set(applyDepIds[index] ?? null, apply);
    });
  }

  details(count: number): Details {
    return {
      count,
      values: this.values,
      stream: null,
      extra: { eventEmitter: undefined },
      indexMap: (callback) => [callback(0)],
    };
  }
}

/** The same codec for SQL, but accepting only marks as values. */
export function standInCodecs(): (codec: Codec) => Codec {
  const known = new Map<Codec, Codec>();
  return (codec) => {
    const before = known.get(codec);
    if (before !== undefined) return before;
    const toPg = (mark: unknown): StandIn => {
      if (!(mark instanceof StandIn)) throw new Error("not available outside a request");
      mark.codec = codec;
      return mark;
    };
    const marked: Codec = Object.create(codec, { toPg: { value: toPg } });
    known.set(codec, marked);
    return marked;
  };
}
