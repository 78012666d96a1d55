/** Detects a preset that brings a second copy of PostGraphile. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { type Copies, copiesFor, copiesText } from "../shared/kernel/copies.ts";
import type { Fault } from "../validation/config-error.ts";

/**
 * A fault if the preset at `url` loads a second copy of PostGraphile or one of its packages; none if it
 * cannot be loaded at all.
 */
export async function copyFaults(url: string | null): Promise<readonly Fault[]> {
  // Loading it takes a second and a hundred MB, so that happens only if a second copy exists.
  if (url === null || copiesFor(url).length === 0) return [];
  const copies = await copiesOnceLoaded(url);
  return copies.length === 0 ? [] : [{ path: "preset", message: copiesText(copies) }];
}

async function copiesOnceLoaded(preset: string): Promise<readonly Copies[]> {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const worker = new Worker(new URL(`../../workers/instance/copies.${extension}`, import.meta.url), {
    workerData: { preset },
    stdout: true,
    stderr: true,
  });
  const answered = once(worker, "message").then(([copies]: unknown[]) =>
    Array.isArray(copies) ? copies : [],
  );
  const ended = once(worker, "exit").then(() => []);
  try {
    return await Promise.race([answered, ended]).catch(() => []);
  } finally {
    answered.catch(() => undefined);
    ended.catch(() => undefined);
    await worker.terminate();
  }
}
