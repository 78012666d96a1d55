/** By which of its two shapes a tenant shares an instance, and why. */
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";

export interface SharingBasis {
  readonly shape: BlueprintSpec["shape"];
  /** Such as `no preset is configured`. */
  readonly because: string;
}

/** What holds before any build has reported the plugins of the preset; those of the stock preset are known. */
export function initialBasis(isStockPreset: boolean): SharingBasis {
  return isStockPreset
    ? { shape: "core", because: "no preset is configured, and no build reads more" }
    : { shape: "full", because: "no build has reported the preset's plugins yet" };
}

/** What holds once a build has reported `unknown`, the plugins of the preset that may read more of the catalogue. */
export function reportedBasis(unknown: readonly string[]): SharingBasis {
  return unknown.length === 0
    ? { shape: "core", because: "all plugins of the preset are known to read no more" }
    : { shape: "full", because: `the preset has plugins that may read more: ${unknown.join(", ")}` };
}

/** In words, for operators. */
export const basisText = ({ shape, because }: SharingBasis): string => `the ${shape} shape: ${because}`;

/** Says all that a preset is told of those for whom it is asked (`PresetFacts`). */
export function variantOf({
  api,
  mode,
  settings,
  schemas,
}: Pick<BlueprintSpec, "api" | "mode" | "settings" | "schemas">): string {
  const sorted = Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([api, mode, sorted, schemas.map(({ logical }) => logical)]);
}
