/** One request in a cell: its turn in the front's queue, and the promise to settle with its answer. */
import type { HostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import type { Answer, RequestTask } from "../../shared/protocol/messages.ts";
import type { Asker } from "./channel.ts";
import { Turn } from "./fair-queue.ts";

/**
 * Bodies up to this size are not counted, so that slow requests with large bodies do not keep small ones out:
 * 4096 of this size are 64 MB.
 */
const uncountedBytes = 16 * 1024;

/** Callbacks for what happens to a request. */
export interface Outcome {
  started(turn: CellTurn, isLight: boolean): number;
  answered(turn: CellTurn): void;
  failed(turn: CellTurn): void;
}

/** One request of a cell, from the front's queue to its answer. */
export class CellTurn extends Turn implements Asker {
  readonly task: RequestTask;
  readonly #outcome: Outcome;
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: HostError) => void;

  constructor(task: RequestTask, tenant: TenantId, outcome: Outcome, asker: Asker) {
    const length = task.body?.length ?? 0;
    super(tenant, length <= uncountedBytes ? 0 : length);
    this.task = task;
    this.#outcome = outcome;
    this.#resolve = asker.resolve;
    this.#reject = asker.reject;
  }

  start(isLight: boolean): number {
    return this.#outcome.started(this, isLight);
  }

  resolve(answer: Answer): void {
    this.#outcome.answered(this);
    this.#resolve(answer);
  }

  reject(error: HostError): void {
    this.#outcome.failed(this);
    this.#reject(error);
  }
}
