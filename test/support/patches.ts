/** The states of the patches if some packages had other versions than the installed ones. */
import { installedVersion } from "../../src/shared/kernel/installed.ts";
import { type PatchStates, statesOf } from "../../src/shared/kernel/patch-policy.ts";
import { patchReports } from "../../workers/graphile/patches.ts";

/** `versions` replace the installed ones, by package; null is a missing package. */
export function patchStates(versions: Readonly<Record<string, string | null>> = {}): PatchStates {
  const versionOf = (name: string): string | null => {
    const faked = versions[name];
    return faked === undefined ? installedVersion(name) : faked;
  };
  return statesOf(patchReports(versionOf));
}
