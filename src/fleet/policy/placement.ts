/** Decides in which cell an instance is built, and what has to be evicted first. Pure. */
import type { CellId } from "../../shared/kernel/ids.ts";
import type { CellPhase } from "../../shared/kernel/phase.ts";
import { fillShare, moduleHeapMb } from "./capacity.ts";

export interface PlacedInstance {
  /** Identifies the instance, not its key: a rebuilt instance gets a new id. */
  readonly id: number;
  readonly heapMb: number;
  readonly inFlight: number;
  readonly lastUsedMs: number;
  /** False while it is being built or is leaving. */
  readonly live: boolean;
  /** Built, but its size is not known yet. */
  readonly unmeasured: boolean;
  /** Being drained. */
  readonly leaving: boolean;
}

export interface PlacedCell {
  readonly id: CellId;
  readonly phase: CellPhase;
  readonly heapMb: number;
  /** Measured after the last collection; null if something was released since. */
  readonly heapLiveMb: number | null;
  /**
   * Set if some instance in the cell is not measured yet: the heap in use after the last build, and its
   * growth since the last measurement, both including garbage. Else null.
   */
  readonly unmeasured: { readonly usedMb: number; readonly grownMb: number } | null;
  /** Receives requests all the time, which a build would delay. */
  readonly busy: boolean;
  /** Holds an instance that has to be alone because it may have ended a thread before. */
  readonly exclusive: boolean;
  readonly instances: readonly PlacedInstance[];
}

export interface PlacementInput {
  readonly cells: readonly PlacedCell[];
  readonly maxCells: number;
  /** False while threads fail to start: an instance that fits beside others must not wait for a new thread. */
  readonly mayStart: boolean;
  readonly maxInstances: number;
  /** Number of threads worth running before instances share them. */
  readonly spread: number;
  readonly needMb: number;
  readonly exclusive: boolean;
  /** Cells to leave out: one that is being replaced, or those that already hold the same key. */
  readonly avoid: ReadonlySet<CellId>;
  /** Cells already asked for a measurement; they are not waited for again. */
  readonly silent: ReadonlySet<CellId>;
}

export type Placement =
  | { readonly kind: "place"; readonly cell: CellId }
  | { readonly kind: "start" }
  /** Measures the heap of a cell that may have more room than it seems. */
  | { readonly kind: "measure"; readonly cell: CellId }
  /** Ends the cell's thread; all its instances are idle. */
  | { readonly kind: "evict-cell"; readonly cell: CellId }
  /** Releases one idle instance of a cell that holds others. */
  | { readonly kind: "evict-instance"; readonly cell: CellId; readonly instance: number }
  /** Waits for a change: a cell that exits, a request that ends. */
  | { readonly kind: "wait" };

/**
 * Heap that a cell has committed: the known or estimated sizes of its instances, or the measured heap if that
 * is more. Instances that are built but not measured are covered by the heap's growth since the last
 * measurement, which is an upper bound of their sizes.
 */
export function committedMb({ instances, heapLiveMb, unmeasured }: PlacedCell): number {
  const sum = (counted: readonly PlacedInstance[]): number =>
    counted.reduce((all, instance) => all + instance.heapMb, 0);
  const known = instances.filter((instance) => !instance.unmeasured);
  const building = instances.filter(({ live, leaving }) => !live && !leaving);
  const promised = moduleHeapMb + sum(known) + (unmeasured?.grownMb ?? 0);
  return Math.max(promised, heapLiveMb ?? 0, unmeasured === null ? 0 : unmeasured.usedMb + sum(building));
}

function isOpen(cell: PlacedCell, input: PlacementInput): boolean {
  return cell.phase === "serving" && !input.avoid.has(cell.id) && !cell.exclusive && !input.exclusive;
}

function hasRoom(cell: PlacedCell, needMb: number): boolean {
  return cell.instances.length === 0 || committedMb(cell) + needMb <= cell.heapMb * fillShare;
}

/** Whether the cell may have room although garbage seems to leave none. */
function isDoubtful(cell: PlacedCell, input: PlacementInput): boolean {
  return cell.unmeasured !== null && isOpen(cell, input) && !input.silent.has(cell.id);
}

/** The next step towards placing an instance of `needMb`; the caller carries it out and asks again. */
export function decidePlacement(input: PlacementInput): Placement {
  const { cells } = input;
  const instances = cells.reduce((sum, cell) => sum + cell.instances.length, 0);
  const spare = cells.find((cell) => cell.phase === "spare" && !input.avoid.has(cell.id));
  const serving = cells.filter((cell) => cell.phase === "serving");

  if (instances < input.maxInstances) {
    // A build blocks its thread for a tenth of a second: cells without traffic come first, then those with
    // the least room.
    const fitting = cells
      .filter((cell) => isOpen(cell, input) && hasRoom(cell, input.needMb))
      .toSorted((a, b) => Number(a.busy) - Number(b.busy) || committedMb(b) - committedMb(a));
    const [best] = fitting;
    const mayGrow = spare !== undefined || (input.mayStart && cells.length < input.maxCells);
    if (serving.length >= input.spread || !mayGrow) {
      if (best !== undefined) return { kind: "place", cell: best.id };
      const doubtful = serving.find((cell) => isDoubtful(cell, input));
      if (doubtful !== undefined) return { kind: "measure", cell: doubtful.id };
    }
    if (spare !== undefined) return { kind: "place", cell: spare.id };
    // A starting cell will be a spare in a moment.
    if (cells.some((cell) => cell.phase === "starting")) return { kind: "wait" };
    if (cells.length < input.maxCells) return { kind: "start" };
  }
  return decideEviction(input);
}

/** Evicts idle instances, the least recently used first; ends the thread if nothing else is in it. */
function decideEviction(input: PlacementInput): Placement {
  // Instances already leaving make room by themselves. A cell that still has requests in flight may take
  // long, so it does not count.
  const leaving = input.cells.some(isLeaving);
  const starting = input.cells.some((cell) => cell.phase === "starting");
  if (leaving || starting) return { kind: "wait" };

  const [first] = input.cells
    .filter((cell) => cell.phase === "serving" && !input.avoid.has(cell.id))
    .flatMap((cell) => evictionCandidate(cell, input) ?? [])
    .toSorted((a, b) => a.lastUsedMs - b.lastUsedMs);
  return first?.step ?? { kind: "wait" };
}

function isLeaving(cell: PlacedCell): boolean {
  const idle = cell.instances.every((instance) => instance.inFlight === 0);
  if (cell.phase === "terminating" || (cell.phase === "draining" && idle)) return true;
  return cell.phase === "serving" && cell.instances.some((each) => each.leaving && each.inFlight === 0);
}

interface EvictionCandidate {
  readonly step: Placement;
  /** When the last of the instances to be evicted was last used. */
  readonly lastUsedMs: number;
}

/** How a cell would make room, or undefined if its idle instances are not enough. */
function evictionCandidate(cell: PlacedCell, input: PlacementInput): EvictionCandidate | undefined {
  const idle = cell.instances
    .filter((instance) => instance.live && instance.inFlight === 0)
    .toSorted((a, b) => a.lastUsedMs - b.lastUsedMs);
  const [oldest] = idle;
  const newest = idle.at(-1);
  if (oldest === undefined || newest === undefined) return undefined;
  // If nothing may be built beside what the cell holds, it can only be evicted as a whole.
  const shared = !input.exclusive && !cell.exclusive && cell.instances.length > 1;
  const last = shared ? lastEvicted(cell, idle, input) : undefined;
  if (last !== undefined) {
    return {
      step: { kind: "evict-instance", cell: cell.id, instance: oldest.id },
      lastUsedMs: last.lastUsedMs,
    };
  }
  if (idle.length < cell.instances.length) return undefined;
  return { step: { kind: "evict-cell", cell: cell.id }, lastUsedMs: newest.lastUsedMs };
}

/**
 * The first instance of `idle`, in order, whose eviction (with all before it) makes enough room in this cell;
 * evicting one each from several cells would make none.
 */
function lastEvicted(
  cell: PlacedCell,
  idle: readonly PlacedInstance[],
  { needMb }: PlacementInput,
): PlacedInstance | undefined {
  let freedMb = 0;
  return idle.find((instance) => {
    freedMb += instance.heapMb;
    return committedMb(cell) - freedMb + needMb <= cell.heapMb * fillShare;
  });
}
