/** Stands in for the results of other steps where a select's statement is built without a request. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { AppliedFunction, Codec, Details, Page, Paged, Placeholder, Values } from "./select-step.ts";

/** Code that a plugin left in a plan finds no request here that it could ask. */
export const outsideRequests = AsyncLocalStorage.snapshot();

/** Stands for a value of a request. */
export class Mark {
  readonly dependency: number;
  codec: Codec | null = null;
  constructor(dependency: number) {
    this.dependency = dependency;
  }
}

/** For what a text may not depend on. */
const outOfReach: Values = {
  get isBatch(): never {
    throw new Error("out of reach");
  },
  at(): never {
    throw new Error("out of reach");
  },
  unaryValue(): never {
    throw new Error("out of reach");
  },
};

/** Results of other steps as a builder may see them here; nothing of them is a request's. */
export class Reach {
  readonly values: Values[];
  readonly #known = new Map<number, unknown>();
  /** Marks that were handed out for placeholders with one value. */
  readonly marks: Mark[] = [];

  constructor(dependencies: number) {
    this.values = Array.from({ length: dependencies }, () => outOfReach);
  }

  /** Throws where a result is used for two things. */
  give(index: number | null, value: unknown): void {
    if (index === null) return;
    if (this.#known.has(index) && !Object.is(this.#known.get(index), value))
      throw new Error("used for two things");
    this.#known.set(index, value);
    this.values[index] = { isBatch: false, at: () => value, unaryValue: () => value };
  }

  mark({ dependencyIndex }: Placeholder, isBatch: boolean): void {
    this.give(dependencyIndex, isBatch ? "many" : "one");
    const at = (): Mark => {
      const mark = new Mark(dependencyIndex);
      this.marks.push(mark);
      return mark;
    };
    this.values[dependencyIndex] = { isBatch, at, unaryValue: outOfReach.unaryValue };
  }

  page(step: Paged, { first, last, offset }: Page): void {
    this.give(step.firstStepId, first);
    this.give(step.lastStepId, last);
    this.give(step.offsetStepId, offset);
    this.give(step.afterStepId, null);
    this.give(step.beforeStepId, null);
  }

  apply({ applyDepIds }: Paged, applied: readonly (AppliedFunction | null)[]): void {
    applied.forEach((apply, index) => {
      this.give(applyDepIds[index] ?? null, apply);
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

/** The same codec for SQL; of values it takes marks alone. */
export function markedCodecs(): (codec: Codec) => Codec {
  const known = new Map<Codec, Codec>();
  return (codec) => {
    const before = known.get(codec);
    if (before !== undefined) return before;
    const toPg = (mark: unknown): Mark => {
      if (!(mark instanceof Mark)) throw new Error("out of reach");
      mark.codec = codec;
      return mark;
    };
    const marked: Codec = Object.create(codec, { toPg: { value: toPg } });
    known.set(codec, marked);
    return marked;
  };
}
