/** Watches cells: their heaps against the budget, and whether their event loops turn. */
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
  /** Heap and external memory, garbage included. */
  readonly usedMb: number;
  /** After the last collection; null where none was asked for since something left. */
  readonly liveMb: number | null;
  /** In use right after that collection. */
  readonly settledMb: number;
  /** What a replacement of it would hold before it served anything. */
  readonly rebuiltMb: number;
  readonly collecting: boolean;
  readonly lastCollectionMs: number;
  /** When the event loop last answered. */
  readonly lastPongMs: number;
  /** A build keeps the loop busy for as long as it takes; it has a limit of its own. */
  readonly building: boolean;
  readonly inFlight: number;
  /** Since the last build in it ended, where what was built is not measured; else null. */
  readonly unmeasuredMs: number | null;
  readonly nowMs: number;
  readonly stallTimeoutMs: number;
}

export type Verdict = "none" | "collect" | "condemn" | "over-budget" | "stalled";

/** From here on the heap is asked what of it is garbage. */
export const collectShare = 0.7;
/** What is in use for good at this share cannot go on for long. */
export const condemnShare = 0.85;
/** A collection of 200 MB takes about 150 ms of the thread: not more often than this, */
const collectEveryMs = 2_000;
/** and not before this share of the budget has come since the last: a cell may be full for good reasons. */
const collectGrowthShare = 0.1;
/** How long after a build an idle cell is collected to measure it, and a busy one. */
const measureIdleMs = 1_000;
const measureBusyMs = 3_000;
/** Compiling and loading modules leaves garbage beyond a small budget; what goes on growing does not stop here. */
const startingShare = 1.5;
/** Modules load in 0.4 s; on a machine that is busy or starts cold it takes longer, but not this long. */
const startLimitMs = 60_000;

/** What to do about a cell. Pure. */
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
  // One that would be as full again has to serve as it is.
  if (phase === "serving" && liveMb !== null && liveMb >= full && cell.rebuiltMb < full) return "condemn";
  if (cell.collecting) return "none";
  const dueMs = nowMs - cell.lastCollectionMs;
  if (isTimeToMeasure(cell)) return dueMs >= measureIdleMs ? "collect" : "none";
  if (usedMb < heapMb * collectShare) return "none";
  if (liveMb !== null && usedMb - cell.settledMb < heapMb * collectGrowthShare) return "none";
  return dueMs >= collectEveryMs ? "collect" : "none";
}

/** Those who waited for the build are answered first, and another one may follow it: one collection measures both. */
function isTimeToMeasure({ building, inFlight, unmeasuredMs }: Watched): boolean {
  if (building || unmeasuredMs === null) return false;
  return unmeasuredMs >= (inFlight === 0 ? measureIdleMs : measureBusyMs);
}

/** Milliseconds to the next look: a growing Map fills 100 MB in under 200 ms. Pure. */
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
/** A thread in a native call answers when that has ended; the others are not left alone meanwhile. */
const readingLimitMs = 20;
const trimEveryMs = 2_000;
/** A thread's memory is back 8 s after its end: giving up more before that would not help. */
const relieveEveryMs = 10_000;

export class Governor {
  readonly #options: GovernorOptions;
  /** Of this thread: cells see to their own. */
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

  /** Whatever goes wrong in one look, the next one comes: without them nothing keeps the budgets. */
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
    // Where this thread itself stood still, silence says nothing about the others.
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

  /** The budgets are what keeps the process small; this is for what they do not see. */
  #relieve(nowMs: number): void {
    const { fleet, memoryMb } = this.#options;
    if (nowMs - this.#lastRelievedMs < relieveEveryMs) return;
    if (memoryUsage.rss() / (1024 * 1024) < memoryMb) return;
    this.#lastRelievedMs = nowMs;
    fleet.relieve();
  }
}
