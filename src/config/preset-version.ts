/** What tells one version of the user's preset from another. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** The hash of the preset module's text; modules that it imports are taken as they are at the start of the host. */
export async function presetVersion(url: string | null): Promise<string> {
  if (url === null) return "amber";
  return createHash("sha256")
    .update(await readFile(fileURLToPath(url)))
    .digest("hex");
}
