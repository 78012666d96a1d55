/** Locates the modules that a config names, and checks that they exist. */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The file URL of a module given by its path (relative to `directory`) or by its file URL. */
export function moduleUrl(text: string, directory: string): string {
  return pathToFileURL(text.startsWith("file:") ? fileURLToPath(text) : resolve(directory, text)).href;
}

export async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() ?? false;
}
