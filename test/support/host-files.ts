/** Paths of the preset modules that hosts under test are configured with. */
import { fileURLToPath } from "node:url";

/** A preset module; see host-preset.ts. */
export const presetFile = fileURLToPath(new URL("host-preset.ts", import.meta.url));

/** A preset module; see careless-preset.ts. */
export const carelessPresetFile = fileURLToPath(new URL("careless-preset.ts", import.meta.url));

/** A preset module; see noisy-preset.ts. */
export const noisyPresetFile = fileURLToPath(new URL("noisy-preset.ts", import.meta.url));

/** A preset module; see context-preset.ts. */
export const contextPresetFile = fileURLToPath(new URL("context-preset.ts", import.meta.url));

/** A preset module; see street-presets.ts. */
export const streetPresetFile = fileURLToPath(new URL("street-presets.ts", import.meta.url));

/** A preset module; see left-out-preset.ts. */
export const leftOutPresetFile = fileURLToPath(new URL("left-out-preset.ts", import.meta.url));

/** A preset module; see subscription-preset.ts. */
export const subscriptionPresetFile = fileURLToPath(new URL("subscription-preset.ts", import.meta.url));
