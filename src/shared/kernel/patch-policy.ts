/**
 * The policy for patches into dependencies. A patch that was written against other versions than the installed ones is never applied:
 * where safety depends on it, the host refuses to work; where it only makes things faster, the dependency's own way is used instead.
 */
import type { VersionOf } from "./installed.ts";

/** In place; left out, so that the dependency works as published; or needed and not possible. */
export type PatchState = "applied" | "plain" | "refused";

/** Something in another package that Rowhouse replaces, wraps, or relies on although no documentation promises it. */
export interface Patch {
  readonly name: string;
  /** The member, as one would search for it in the package's source. */
  readonly member: string;
  /** The versions it was read against, by package; of `node`, major versions. */
  readonly versions: Readonly<Record<string, readonly string[]>>;
  readonly purpose: "safety" | "speed";
  /**
   * How Rowhouse knows that the patch fits. `versions`: the installed ones are among those that were read. `content`: the code that uses
   * the member examines it (a digest, the type of a property) and refuses anything else, so the version alone does not matter.
   */
  readonly checked: "versions" | "content";
  /** What it buys, with the figure where one was measured. */
  readonly gain: string;
  /** What happens without it; a clause that the log and the doctor quote. */
  readonly otherwise: string;
  readonly files: readonly string[];
}

/** What became of a patch in this installation. */
export interface PatchReport {
  readonly name: string;
  readonly state: PatchState;
  /** Why it is not applied, what follows from that, and the cure; null where it is applied. */
  readonly reason: string | null;
}

/** By the patch's name. */
export type PatchStates = Readonly<Record<string, PatchState>>;

/** Decides about one patch by the installed versions. Pure. */
export function reportOf(patch: Patch, versionOf: VersionOf): PatchReport {
  const { name, purpose, otherwise } = patch;
  const unknown = patch.checked === "content" ? [] : unknownVersions(patch, versionOf);
  if (unknown.length === 0) return { name, state: "applied", reason: null };
  const found = unknown.map(({ dependency, version, known }) => {
    const state = version === null ? "was not found" : `${version} was not tested`;
    return `${dependency} ${state} (tested: ${known.join(", ")})`;
  });
  return {
    name,
    state: purpose === "safety" ? "refused" : "plain",
    reason: `${found.join("; ")}: ${otherwise}. ${cureOf(unknown)}`,
  };
}

interface UnknownVersion {
  readonly dependency: string;
  readonly version: string | null;
  readonly known: readonly string[];
}

function unknownVersions({ versions }: Patch, versionOf: VersionOf): UnknownVersion[] {
  return Object.entries(versions).flatMap(([dependency, known]) => {
    const version = versionOf(dependency);
    const compared = dependency === "node" ? version?.split(".")[0] : version;
    return known.includes(compared ?? "") ? [] : [{ dependency, version, known }];
  });
}

function cureOf(unknown: readonly UnknownVersion[]): string {
  const packages = unknown
    .filter(({ dependency }) => dependency !== "node")
    .map(({ dependency, known }) => `${dependency}@${known.at(-1)}`);
  const runtime = unknown.find(({ dependency }) => dependency === "node");
  const cures = [
    ...(packages.length === 0
      ? []
      : [`Install the tested version: npm install --save-exact ${packages.join(" ")}`]),
    ...(runtime === undefined ? [] : [`Run Node.js ${runtime.known.at(-1)}`]),
  ];
  return cures.join(". ");
}

export function statesOf(reports: readonly PatchReport[]): PatchStates {
  return Object.fromEntries(reports.map(({ name, state }) => [name, state]));
}
