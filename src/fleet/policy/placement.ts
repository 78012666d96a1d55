/** In which cell an instance is built, and what has to go first. Pure. */
import type { CellId } from "../../shared/kernel/ids.ts";
import type { CellPhase } from "../../shared/kernel/phase.ts";
import { fillShare, moduleHeapMb } from "./capacity.ts";

export interface PlacedInstance {
  /** Identity, not key: a rebuilt instance is another one. */
  readonly id: number;
  readonly heapMb: number;
  readonly inFlight: number;
  readonly lastUsedMs: number;
  /** False while it is being built or on its way out. */
  readonly live: boolean;
  /** Built, but what it takes is not known yet. */
  readonly unmeasured: boolean;
  /** On its way out. */
  readonly leaving: boolean;
}

export interface PlacedCell {
  readonly id: CellId;
  readonly phase: CellPhase;
  readonly heapMb: number;
  /** After the last collection; null where something was released since. */
  readonly heapLiveMb: number | null;
  /** Where not all that was built in it is measured: what it then held, and more than those take, with garbage; else null. */
  readonly unmeasured: { readonly usedMb: number; readonly grownMb: number } | null;
  /** Asked for something all the time: a build would hold those requests up. */
  readonly busy: boolean;
  /** Holds an instance that is to be alone: it may have ended a thread before. */
  readonly exclusive: boolean;
  readonly instances: readonly PlacedInstance[];
}

export interface PlacementInput {
  readonly cells: readonly PlacedCell[];
  readonly maxCells: number;
  /** False while threads fail to start: what fits beside others is not kept waiting for one. */
  readonly mayStart: boolean;
  readonly maxInstances: number;
  /** Threads worth running before instances share them. */
  readonly spread: number;
  readonly needMb: number;
  readonly exclusive: boolean;
  /** Not in these cells: one that is being replaced, those that hold the same already. */
  readonly avoid: ReadonlySet<CellId>;
  /** Asked for a measure already: what they have not told yet is not waited for again. */
  readonly silent: ReadonlySet<CellId>;
}

export type Placement =
  | { readonly kind: "place"; readonly cell: CellId }
  | { readonly kind: "start" }
  /** Finds out what the cell holds: for all that is known it may have room. */
  | { readonly kind: "measure"; readonly cell: CellId }
  /** Ends the cell's thread; all its instances are idle. */
  | { readonly kind: "evict-cell"; readonly cell: CellId }
  /** Releases one idle instance of a cell that holds others. */
  | { readonly kind: "evict-instance"; readonly cell: CellId; readonly instance: number }
  /** Until something changes: a cell that exits, a request that ends. */
  | { readonly kind: "wait" };

/**
 * Heap that a cell has given away: what its instances are known or estimated to take, or what was measured if that is more. Of what is
 * built, but not measured, no estimate is used: all that came since the last measure is more than that can be.
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

/** Whether there may be room for it where garbage seems to leave none. */
function isDoubtful(cell: PlacedCell, input: PlacementInput): boolean {
  return cell.unmeasured !== null && isOpen(cell, input) && !input.silent.has(cell.id);
}

/** What to do next for an instance that needs `needMb`; the caller carries it out and asks again. */
export function decidePlacement(input: PlacementInput): Placement {
  const { cells } = input;
  const instances = cells.reduce((sum, cell) => sum + cell.instances.length, 0);
  const spare = cells.find((cell) => cell.phase === "spare" && !input.avoid.has(cell.id));
  const serving = cells.filter((cell) => cell.phase === "serving");

  if (instances < input.maxInstances) {
    // A build keeps its thread busy for a tenth of a second: where others are not asked for, before where there is least room.
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
    // A cell that is coming up will be a spare in a moment.
    if (cells.some((cell) => cell.phase === "starting")) return { kind: "wait" };
    if (cells.length < input.maxCells) return { kind: "start" };
  }
  return decideEviction(input);
}

/** Idle instances make room, the least recently used first: with their thread where nothing else is in there. */
function decideEviction(input: PlacementInput): Placement {
  // What is about to leave makes room by itself; what still has requests in flight may take its time.
  const leaving = input.cells.some(isLeaving);
  const starting = input.cells.some((cell) => cell.phase === "starting");
  if (leaving || starting) return { kind: "wait" };

  const [first] = input.cells
    .filter((cell) => cell.phase === "serving" && !input.avoid.has(cell.id))
    .flatMap((cell) => concession(cell, input) ?? [])
    .toSorted((a, b) => a.lastUsedMs - b.lastUsedMs);
  return first?.step ?? { kind: "wait" };
}

function isLeaving(cell: PlacedCell): boolean {
  const idle = cell.instances.every((instance) => instance.inFlight === 0);
  if (cell.phase === "terminating" || (cell.phase === "draining" && idle)) return true;
  return cell.phase === "serving" && cell.instances.some((each) => each.leaving && each.inFlight === 0);
}

interface Concession {
  readonly step: Placement;
  /** When the last one to go for it was last used. */
  readonly lastUsedMs: number;
}

/** How a cell would make room, or undefined where what is idle in it is not enough. */
function concession(cell: PlacedCell, input: PlacementInput): Concession | undefined {
  const idle = cell.instances
    .filter((instance) => instance.live && instance.inFlight === 0)
    .toSorted((a, b) => a.lastUsedMs - b.lastUsedMs);
  const [oldest] = idle;
  const newest = idle.at(-1);
  if (oldest === undefined || newest === undefined) return undefined;
  // Where nothing may be built beside what it holds, a cell can only go as a whole.
  const shared = !input.exclusive && !cell.exclusive && cell.instances.length > 1;
  const last = shared ? lastToGo(cell, idle, input) : undefined;
  if (last !== undefined) {
    return {
      step: { kind: "evict-instance", cell: cell.id, instance: oldest.id },
      lastUsedMs: last.lastUsedMs,
    };
  }
  if (idle.length < cell.instances.length) return undefined;
  return { step: { kind: "evict-cell", cell: cell.id }, lastUsedMs: newest.lastUsedMs };
}

/** Of `idle` in that order, the one with which there is room: evicting one here and one there makes none. */
function lastToGo(
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
