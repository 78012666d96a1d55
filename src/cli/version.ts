import { readFile } from "node:fs/promises";
import { z } from "zod";

/** The package's version; package.json is two folders up from the sources, three in the published package. */
export async function hostVersion(): Promise<string> {
  for (const place of ["../../package.json", "../../../package.json"]) {
    try {
      const text = await readFile(new URL(place, import.meta.url), "utf8");
      return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
    } catch {
      // Try the other place.
    }
  }
  return "unknown";
}
