/** How many cells and instances fit into the given memory. Pure. */
import type { Config } from "../../config/config.ts";
import { HostError } from "../../shared/kernel/errors.ts";

export interface CapacityInput {
  /** Memory that the whole process may use. */
  readonly memoryMb: number;
  readonly heapMb: number;
  readonly hardLimitFactor: number;
  readonly headroomMb: number;
  readonly youngMb: number;
  /** Maximum set by the configuration; null: limited by memory alone. */
  readonly max: number | null;
  readonly instances: number | null;
  readonly instanceHeapMb: number;
  readonly spare: number;
  /** Connections of subscribers that the front may have; by default none. */
  readonly subscribers?: number;
}

export interface CapacityPlan {
  readonly cells: number;
  /** What limits the number of cells. */
  readonly boundBy: "memory" | "connections" | "cells.max";
  readonly instances: number;
  /** Warm cells kept beside the serving ones; never so many that none is left to serve. */
  readonly spare: number;
  readonly heapMb: number;
  readonly hardLimitMb: number;
  /**
   * V8 lets Node end a thread gracefully only if a collection leaves its heap near this limit. A single call
   * that allocates more than what is left ends the process, and during such a call the thread cannot respond.
   * With this limit at twice a budget of 96 MB, JSON.parse of 64 MB of numbers (457 MB), `split("")` of 64 MB
   * (1097 MB) and `fill` of 32 million elements each ended the process; with 1 GB more, none did.
   */
  readonly v8LimitMb: number;
  /** How much a thread's heap may grow between collections, in percent of its live size. */
  readonly growingPercent: number;
  readonly frontMb: number;
  readonly cellMb: number;
  /** Memory of the process with every cell at its budget. */
  readonly planMb: number;
}

/** RSS of the front with its listeners and pools; 84–97 MB measured on Node 24.21, x64. */
const frontAloneMb = 100;
/** Of an idle subscriber: 10–20 kB measured for WebSockets and event streams alike, with a subscription. */
const subscriberKb = 20;
/**
 * Memory of a thread outside its heap (stacks, code, zone memory); 14–20 MB measured with PostGraphile's
 * modules loaded.
 */
const threadMb = 20;
/** Heap that PostGraphile's modules take in a thread before the first instance. */
export const moduleHeapMb = 42;
/** Nothing more is placed in a cell above this share of its budget: plans and requests need the rest. */
export const fillShare = 0.75;
/** The smallest cell in which an instance fits beside the modules. */
export const minHeapMb = Math.ceil((moduleHeapMb + 16) / fillShare);

/** What a config asks for. */
export function capacityOf({ cells, realtime }: Pick<Config, "cells" | "realtime">): CapacityInput {
  return { ...cells, subscribers: realtime?.connections ?? 0 };
}

/**
 * The plan for `input`; throws `CONFIG_INVALID` if not even one cell fits. `connected`: how many cells the
 * databases have connections for, used if the configuration sets no maximum.
 */
export function planCapacity(input: CapacityInput, connected = Number.POSITIVE_INFINITY): CapacityPlan {
  const cellMb = input.heapMb + input.youngMb + threadMb;
  const frontMb = frontAloneMb + Math.ceil(((input.subscribers ?? 0) * subscriberKb) / 1024);
  const fitting = Math.floor((input.memoryMb - frontMb) / cellMb);
  if (fitting < 1) {
    const most = Math.floor(input.memoryMb - frontMb - input.youngMb - threadMb);
    throw new HostError(
      "CONFIG_INVALID",
      most < minHeapMb
        ? `cells.memoryMb ${input.memoryMb} is too small: the front needs ${frontMb} MB and each cell at least ${minHeapMb + input.youngMb + threadMb} MB`
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
      `cells.heapMb ${input.heapMb} leaves no room for an instance in addition to PostGraphile's modules: set it to at least ${minHeapMb}`,
    );
  }
  const perCell = Math.max(1, Math.floor(fillMb / input.instanceHeapMb));
  const hardLimitMb = Math.round(input.heapMb * input.hardLimitFactor);
  return {
    cells,
    boundBy,
    // The estimate covers an instance before it is measured. Most are far smaller, so the count alone must
    // not be the limit.
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
 * The growth that V8 13.6 itself would choose for a heap with this limit: 30 % up to 256 MB, 100 % from 2 GB,
 * linear in between. V8 is given a higher limit and would allow more growth, so garbage alone would exceed
 * the budget: 294 MB with 130 MB live, instead of 228.
 */
export function growingPercent(hardLimitMb: number): number {
  const share = (Math.min(Math.max(hardLimitMb, 256), 2_048) - 256) / (2_048 - 256);
  return Math.round(30 + 70 * share);
}
