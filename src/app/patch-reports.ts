/** Which patches to dependencies apply in this installation. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { z } from "zod";
import { HostError } from "../shared/kernel/errors.ts";
import type { PatchReport } from "../shared/kernel/patch-policy.ts";
import type { Fault } from "../validation/config-error.ts";

const reports = z.array(
  z.object({
    name: z.string(),
    state: z.enum(["applied", "plain", "refused"]),
    reason: z.nullable(z.string()),
  }),
);

/** Reads the reports in a thread, because only threads load the list of patches. Resolves when that thread has ended. */
export async function readPatchReports(): Promise<readonly PatchReport[]> {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const worker = new Worker(new URL(`../../workers/patch-report.${extension}`, import.meta.url));
  let said: unknown = null;
  worker.on("message", (message) => {
    said = message;
  });
  await once(worker, "exit");
  if (said === null) throw new HostError("INTERNAL", "the thread that checks the patches reported nothing");
  return reports.parse(said);
}

/** A fault, with its cure, for each safety patch that cannot be applied; with any of them, a host must not start. */
export function patchFaults(reports: readonly PatchReport[]): Fault[] {
  return reports.flatMap(({ name, state, reason }) =>
    state === "refused" ? [{ path: `patch ${name}`, message: reason ?? "it cannot be applied" }] : [],
  );
}
