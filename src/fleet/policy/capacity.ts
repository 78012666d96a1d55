/** How many cells and instances fit in the memory given. Pure. */
import { HostError } from "../../shared/kernel/errors.ts";

export interface CapacityInput {
  /** What the whole process may use. */
  readonly memoryMb: number;
  readonly heapMb: number;
  readonly hardLimitFactor: number;
  readonly headroomMb: number;
  readonly youngMb: number;
  /** The most that the configuration allows, or null: as memory has it. */
  readonly max: number | null;
  readonly instances: number | null;
  readonly instanceHeapMb: number;
  readonly spare: number;
}

export interface CapacityPlan {
  readonly cells: number;
  /** Why they are not more. */
  readonly boundBy: "memory" | "connections" | "cells.max";
  readonly instances: number;
  /** Warm cells kept beside those that serve; never so many that nothing could serve. */
  readonly spare: number;
  readonly heapMb: number;
  readonly hardLimitMb: number;
  /**
   * V8 asks Node to end a thread gently only where a collection leaves its heap near this. A call that takes more at once than is
   * left ends the process, and in mid-call a thread answers nobody: with this at twice a budget of 96 MB, JSON.parse of 64 MB of
   * numbers (457 MB), `split("")` of 64 MB (1097 MB) and `fill` of 32 million elements ended every process, with 1 GB more none.
   */
  readonly v8LimitMb: number;
  /** How much a thread's heap may grow between collections, in percent of what was live. */
  readonly growingPercent: number;
  readonly frontMb: number;
  readonly cellMb: number;
  /** What the process uses with every cell at its budget. */
  readonly planMb: number;
}

/** RSS of the front with its listeners and pools: 84–97 MB measured on Node 24.21, x64. */
const frontMb = 100;
/** What a thread takes beside its heap: stacks, code, zone memory; 14–20 MB measured with PostGraphile's modules loaded. */
const threadMb = 20;
/** Modules of PostGraphile in a thread's heap before the first instance. */
export const moduleHeapMb = 42;
/** Above this share of the budget nothing more is placed in a cell: plans and requests need the rest. */
export const fillShare = 0.75;
/** The smallest cell in which anything fits beside the modules. */
export const minHeapMb = Math.ceil((moduleHeapMb + 16) / fillShare);

/**
 * The plan for `input`; throws `CONFIG_INVALID` where not even one cell fits. `connected`: how many cells the databases have connections
 * for, where nobody has said how many there are to be.
 */
export function planCapacity(input: CapacityInput, connected = Number.POSITIVE_INFINITY): CapacityPlan {
  const cellMb = input.heapMb + input.youngMb + threadMb;
  const fitting = Math.floor((input.memoryMb - frontMb) / cellMb);
  if (fitting < 1) {
    const most = Math.floor(input.memoryMb - frontMb - input.youngMb - threadMb);
    throw new HostError(
      "CONFIG_INVALID",
      most < minHeapMb
        ? `cells.memoryMb ${input.memoryMb} is too little: the front needs ${frontMb} MB and a cell at least ${minHeapMb + input.youngMb + threadMb} MB`
        : `a cell of cells.heapMb ${input.heapMb} does not fit in cells.memoryMb ${input.memoryMb}: set cells.heapMb to at most ${most}`,
    );
  }
  const most = input.max ?? connected;
  const cells = Math.min(fitting, most);
  const boundBy = fitting <= most ? "memory" : input.max === null ? "connections" : "cells.max";
  const fillMb = input.heapMb * fillShare - moduleHeapMb;
  if (input.heapMb < minHeapMb) {
    throw new HostError(
      "CONFIG_INVALID",
      `cells.heapMb ${input.heapMb} leaves no room for an instance beside PostGraphile's modules: set it to at least ${minHeapMb}`,
    );
  }
  const perCell = Math.max(1, Math.floor(fillMb / input.instanceHeapMb));
  const hardLimitMb = Math.round(input.heapMb * input.hardLimitFactor);
  return {
    cells,
    boundBy,
    // The estimate is what an instance takes before it is measured: most are far smaller, so the count alone must not bind.
    instances: input.instances ?? Math.max(cells * perCell, Math.floor((cells * fillMb) / 4)),
    spare: Math.min(input.spare, cells - 1),
    heapMb: input.heapMb,
    hardLimitMb,
    v8LimitMb: hardLimitMb + input.headroomMb,
    growingPercent: growingPercent(hardLimitMb),
    frontMb,
    cellMb,
    planMb: frontMb + cells * cellMb,
  };
}

/**
 * What V8 13.6 itself would take for a heap with this limit: 30 % up to 256 MB, 100 % at 2 GB, in between on a line. From the
 * limit that it is given it would take more, and garbage alone would pass the budget: 294 MB with 130 live, not 228.
 */
export function growingPercent(hardLimitMb: number): number {
  const share = (Math.min(Math.max(hardLimitMb, 256), 2_048) - 256) / (2_048 - 256);
  return Math.round(30 + 70 * share);
}
