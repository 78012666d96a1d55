/** The phases of cells, instances and the host, and the legal transitions between them. */
import { HostError } from "./errors.ts";

/** `spare`: modules loaded, waiting for a build. `condemned`: still serves while its replacement is built. */
export type CellPhase = "starting" | "spare" | "serving" | "condemned" | "draining" | "terminating" | "gone";
export type InstancePhase = "building" | "live" | "draining" | "gone";
export type HostPhase = "starting" | "ready" | "draining" | "closed";

const cellSteps: Record<CellPhase, readonly CellPhase[]> = {
  starting: ["spare", "terminating", "gone"],
  spare: ["serving", "draining", "terminating", "gone"],
  serving: ["spare", "condemned", "draining", "terminating", "gone"],
  condemned: ["draining", "terminating", "gone"],
  draining: ["terminating", "gone"],
  terminating: ["gone"],
  gone: [],
};

const instanceSteps: Record<InstancePhase, readonly InstancePhase[]> = {
  building: ["live", "gone"],
  live: ["draining", "gone"],
  draining: ["gone"],
  gone: [],
};

const hostSteps: Record<HostPhase, readonly HostPhase[]> = {
  starting: ["ready", "draining", "closed"],
  ready: ["draining", "closed"],
  draining: ["closed"],
  closed: [],
};

function step<Phase extends string>(
  what: string,
  steps: Record<Phase, readonly Phase[]>,
  from: Phase,
  to: Phase,
): Phase {
  if (from === to || steps[from].includes(to)) return to;
  throw new HostError("INTERNAL", `${what} cannot go from ${from} to ${to}`);
}

/** Each returns `to` if the transition is legal (staying is), and throws `INTERNAL` if not. */
export const cellStep = (from: CellPhase, to: CellPhase): CellPhase => step("cell", cellSteps, from, to);
export const instanceStep = (from: InstancePhase, to: InstancePhase): InstancePhase =>
  step("instance", instanceSteps, from, to);
export const hostStep = (from: HostPhase, to: HostPhase): HostPhase => step("host", hostSteps, from, to);
