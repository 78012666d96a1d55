/** Watches cells: their heaps against the budget, and whether their event loops are responsive. */
import { memoryUsage } from "node:process";
import { pause } from "../shared/kernel/duration.ts";
import { unreachable } from "../shared/kernel/errors.ts";
import type { CellPhase } from "../shared/kernel/phase.ts";
import { IdleGc } from "../shared/memory/idle-gc.ts";
import { MallocTrim } from "../shared/memory/malloc-trim.ts";
import type { Cell } from "./cell/cell.ts";
import type { Fleet } from "./fleet.ts";
import { moduleHeapMb } from "./policy/capacity.ts";
import { isUnmeasured } from "./registry.ts";

export interface Watched {
  readonly phase: CellPhase;
  readonly heapMb: number;
  /** Heap and external memory in MB, garbage included. */
  readonly usedMb: number;
  /** Heap after the last collection; null if none was requested since something left the thread. */
  readonly liveMb: number | null;
  /** Memory in use right after that collection. */
  readonly settledMb: number;
  /** What a replacement of this cell would hold before it served anything. */
  readonly rebuiltMb: number;
  readonly collecting: boolean;
  readonly lastCollectionMs: number;
  /** When the event loop last answered. */
  readonly lastPongMs: number;
  /** A build blocks the event loop while it runs; it has a timeout of its own. */
  readonly building: boolean;
  readonly inFlight: number;
  /** Time since the last build in the cell ended, if something in it is not measured yet; else null. */
  readonly unmeasuredMs: number | null;
  readonly nowMs: number;
  readonly stallTimeoutMs: number;
}

export type Verdict = "none" | "collect" | "condemn" | "over-budget" | "stalled";

/** Above this share of the budget a collection finds out how much is garbage. */
export const collectShare = 0.7;
/** A cell whose live heap reaches this share of the budget cannot go on for long. */
export const condemnShare = 0.85;
/** A collection of 200 MB blocks the thread for about 150 ms, so they are at least this far apart, */
const collectEveryMs = 2_000;
/**
 * and the heap must have grown by this share of the budget since the last one: a cell may be full for good
 * reasons.
 */
const collectGrowthShare = 0.1;
/** How long after a build a cell is collected to measure the instance: an idle cell, and a busy one. */
const measureIdleMs = 1_000;
const measureBusyMs = 3_000;
/**
 * Compiling and loading modules may exceed a small budget with garbage; a heap that keeps growing exceeds
 * this as well.
 */
const startingShare = 1.5;
/** Modules load in 0.4 s; a busy machine or a cold start takes longer, but not this long. */
const startLimitMs = 60_000;

/** Decides what to do about a cell. Pure. */
export function decideVerdict(cell: Watched): Verdict {
  const { phase, heapMb, usedMb, liveMb, nowMs } = cell;
  if (phase === "terminating" || phase === "gone") return "none";
  if (phase === "starting") {
    if (usedMb >= heapMb * startingShare) return "over-budget";
    return nowMs - cell.lastPongMs > startLimitMs ? "stalled" : "none";
  }
  if (usedMb >= heapMb) return "over-budget";
  if (!cell.building && nowMs - cell.lastPongMs > cell.stallTimeoutMs) return "stalled";
  const full = heapMb * condemnShare;
  // A cell whose replacement would be just as full has to go on serving.
  if (phase === "serving" && liveMb !== null && liveMb >= full && cell.rebuiltMb < full) return "condemn";
  if (cell.collecting) return "none";
  const dueMs = nowMs - cell.lastCollectionMs;
  if (isTimeToMeasure(cell)) return dueMs >= measureIdleMs ? "collect" : "none";
  if (usedMb < heapMb * collectShare) return "none";
  if (liveMb !== null && usedMb - cell.settledMb < heapMb * collectGrowthShare) return "none";
  return dueMs >= collectEveryMs ? "collect" : "none";
}

/**
 * Whether to measure now. Requests that waited for the build go first, and another build may follow: one
 * collection measures both.
 */
function isTimeToMeasure({ building, inFlight, unmeasuredMs }: Watched): boolean {
  if (building || unmeasuredMs === null) return false;
  return unmeasuredMs >= (inFlight === 0 ? measureIdleMs : measureBusyMs);
}

/** Milliseconds until the next look; a growing Map fills 100 MB in under 200 ms. Pure. */
export function nextLookMs(fullestShare: number): number {
  if (fullestShare > collectShare) return 10;
  return fullestShare > 0.5 ? 25 : 100;
}

export interface GovernorOptions {
  readonly fleet: Fleet;
  readonly stallTimeoutMs: number;
  readonly memoryMb: number;
}

const pingEveryMs = 1_000;
/** A thread in a native call answers only when the call ends; the other cells are judged without waiting for it. */
const readingLimitMs = 20;
const trimEveryMs = 2_000;
/** A thread's memory is returned 8 s after its end: giving up more before that would not help. */
const relieveEveryMs = 10_000;

export class Governor {
  readonly #options: GovernorOptions;
  /** For the main thread; cells do this for themselves. */
  readonly #reserve = new IdleGc();
  readonly #allocator = new MallocTrim();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #lastPingMs = 0;
  #lastRelievedMs = 0;
  #lastTrimmedMs = 0;
  #lastLookMs = performance.now();

  constructor(options: GovernorOptions) {
    this.#options = options;
  }

  open(): void {
    this.#schedule(0);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(ms: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#lookAndGoOn(), ms);
  }

  /** Schedules the next look even if this one failed: without looks nothing enforces the budgets. */
  async #lookAndGoOn(): Promise<void> {
    try {
      await this.#look();
    } finally {
      const shares = this.#options.fleet.registry.cells.map((cell) => cell.heap.usedMb / cell.heapMb);
      this.#schedule(nextLookMs(Math.max(0, ...shares)));
    }
  }

  async #look(): Promise<void> {
    const { fleet } = this.#options;
    const nowMs = performance.now();
    const { cells } = fleet.registry;
    // If this thread itself was blocked, missing answers say nothing about the cells.
    if (nowMs - this.#lastLookMs > pingEveryMs * 2) {
      for (const cell of cells) cell.lastPongMs = Math.max(cell.lastPongMs, nowMs - pingEveryMs);
    }
    this.#lastLookMs = nowMs;
    const read = new AbortController();
    void Promise.all(cells.map((cell) => cell.measure())).then(() => read.abort());
    await pause(readingLimitMs, read.signal);
    for (const cell of cells) this.#judge(cell, nowMs);
    if (nowMs - this.#lastPingMs >= pingEveryMs) {
      this.#lastPingMs = nowMs;
      for (const cell of cells) cell.ping();
      if (cells.every((cell) => cell.inFlight === 0)) this.#reserve.tick(fleet.leases);
      fleet.sweep(nowMs);
      if (nowMs - this.#lastTrimmedMs >= trimEveryMs) {
        this.#lastTrimmedMs = nowMs;
        void this.#allocator.trim();
      }
      this.#relieve(nowMs);
    }
  }

  #judge(cell: Cell, nowMs: number): void {
    const { fleet, stallTimeoutMs } = this.#options;
    const members = fleet.registry.instancesOf(cell);
    const [only] = members;
    const verdict = decideVerdict({
      phase: cell.phase,
      heapMb: cell.heapMb,
      usedMb: cell.heap.usedMb,
      liveMb: cell.heap.liveMb,
      settledMb: cell.heap.settledMb,
      rebuiltMb: only !== undefined && members.length === 1 ? moduleHeapMb + only.heapMb : 0,
      collecting: cell.heap.collecting,
      lastCollectionMs: cell.heap.lastCollectionMs,
      lastPongMs: cell.lastPongMs,
      building: members.some((instance) => instance.phase === "building"),
      inFlight: cell.inFlight,
      unmeasuredMs: members.some(isUnmeasured) ? nowMs - cell.heap.lastBuiltMs : null,
      nowMs,
      stallTimeoutMs,
    });
    switch (verdict) {
      case "none":
        return;
      case "collect":
        cell.collect(nowMs);
        return;
      case "condemn":
        void fleet.replace(cell);
        return;
      case "over-budget":
      case "stalled":
        void cell.terminate(verdict);
        return;
      default:
        unreachable(verdict);
    }
  }

  /** The budgets keep the process small; this is for memory outside them. */
  #relieve(nowMs: number): void {
    const { fleet, memoryMb } = this.#options;
    if (nowMs - this.#lastRelievedMs < relieveEveryMs) return;
    if (memoryUsage.rss() / (1024 * 1024) < memoryMb) return;
    this.#lastRelievedMs = nowMs;
    fleet.relieve();
  }
}
