/** Distinguishes versions of the user's preset. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/**
 * The hash of the preset module's text; modules that it imports are not covered, and are read once, when the
 * host starts.
 */
export async function presetVersion(url: string | null): Promise<string> {
  if (url === null) return "amber";
  return createHash("sha256")
    .update(await readFile(fileURLToPath(url)))
    .digest("hex");
}
