/** Starts cells: warm spares ahead of need, with pauses after failed starts. */

import type { Observe, TerminationReason } from "../observability/observation.ts";
import type { Condition } from "../shared/kernel/condition.ts";
import { messageOf } from "../shared/kernel/errors.ts";
import { type CellId, cellId } from "../shared/kernel/ids.ts";
import { Cell, type CellOptions } from "./cell/cell.ts";
import type { CapacityPlan } from "./policy/capacity.ts";
import type { Registry } from "./registry.ts";

export interface SparesOptions {
  readonly plan: CapacityPlan;
  readonly setup: CellOptions["setup"];
  readonly youngMb: number;
  readonly observe: Observe;
  readonly entry?: URL;
  readonly onGone: (cell: Cell, reason: TerminationReason) => void;
}

/** A starting thread takes a core for 0.4 s; on two cores that would delay a build and its first answers. */
const afterBuildMs = 200;
const firstPauseMs = 500;
const longestPauseMs = 30_000;

export class Spares {
  readonly #options: SparesOptions;
  readonly #registry: Registry;
  readonly #changed: Condition;
  #ordinal = 0;
  #failed = 0;
  #afterMs = 0;
  #warmAfterMs = 0;
  #closed = false;

  constructor(options: SparesOptions, registry: Registry, changed: Condition) {
    this.#options = options;
    this.#registry = registry;
    this.#changed = changed;
  }

  /** False once two or more starts in a row have failed. */
  get healthy(): boolean {
    return this.#failed < 2;
  }

  /** Whether the last start failed. */
  get failing(): boolean {
    return this.#failed > 0;
  }

  /** Milliseconds until another start is worth trying; 0: now. */
  pauseMs(nowMs: number): number {
    return Math.max(0, this.#afterMs - nowMs);
  }

  close(): void {
    this.#closed = true;
  }

  start(): void {
    this.#ordinal += 1;
    const id = cellId(this.#ordinal);
    try {
      this.#registry.addCell(this.#newCell(id));
    } catch (thrown) {
      // If the system allows no more threads Node throws at once. The caller may be a timer or another
      // thread's exit handler, where nobody would catch it.
      const error = thrown instanceof Error ? thrown : new Error(messageOf(thrown));
      this.#options.observe({ kind: "cell.error", cell: id, error });
      this.#startFailed();
    }
  }

  #newCell(id: CellId): Cell {
    const { plan, setup, entry, youngMb, observe, onGone } = this.#options;
    let ready = false;
    return new Cell({
      id,
      setup,
      heapMb: plan.heapMb,
      hardLimitMb: plan.hardLimitMb,
      v8LimitMb: plan.v8LimitMb,
      youngMb,
      observe,
      onReady: () => {
        ready = true;
        this.#failed = 0;
        this.#changed.notify();
      },
      onGone: (gone, reason) => {
        const wanted = reason === "evicted" || reason === "shutdown";
        if (!ready && !wanted) this.#startFailed();
        else if (reason === "crashed" && this.#registry.instancesOf(gone).length === 0) this.#startFailed();
        onGone(gone, reason);
      },
      ...(entry === undefined ? {} : { entry }),
    });
  }

  #startFailed(): void {
    this.#failed += 1;
    this.#afterMs = performance.now() + Math.min(longestPauseMs, firstPauseMs * 2 ** this.#failed);
  }

  /** Keeps no warm spare for `ms` because memory is short. A cell that is needed is still started. */
  rest(ms: number): void {
    this.#warmAfterMs = performance.now() + ms;
  }

  /** Calls `refill` after a delay, so that requests that waited for a build get their answers first. */
  refillSoon(): void {
    setTimeout(() => this.refill(), afterBuildMs).unref();
  }

  /** Starts cells until `max` are warm or the plan is full; the default is the plan's number of spares. */
  refill(max = this.#options.plan.spare): void {
    const nowMs = performance.now();
    if (this.#closed || this.pauseMs(nowMs) > 0 || nowMs < this.#warmAfterMs) return;
    const { cells } = this.#registry;
    const warm = cells.filter((cell) => cell.phase === "spare" || cell.phase === "starting").length;
    for (let count = warm; count < max && this.#registry.cellCount < this.#options.plan.cells; count += 1) {
      this.start();
    }
  }
}
