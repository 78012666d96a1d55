/** Checks whether the schemas that a build was requested for are still current. */
import { pause } from "../shared/kernel/duration.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { BuildRequest } from "./instance.ts";

/**
 * Throws `SCHEMA_CHANGED` if `request` is out of date, `BUILD_TIMEOUT` if there is no answer by `deadlineMs`,
 * and what `verify` throws.
 */
export async function assertCurrent(request: BuildRequest, deadlineMs: number): Promise<void> {
  const leftMs = Math.max(1, deadlineMs - performance.now());
  const current = await answerWithin(request, leftMs);
  if (current === undefined) {
    throw new HostError(
      "BUILD_TIMEOUT",
      `could not determine in time whether ${request.spec.key} is current`,
    );
  }
  if (!current) throw overtaken(request);
}

/** Fingerprinting a shape usually takes 15 to 30 ms. */
const quickCheckMs = 250;

/**
 * Throws `SCHEMA_CHANGED` if `request` is out of date, and what `verify` throws, before anything is built.
 * Other builds are queued behind this check, so a slow answer (for example behind a lock) is not waited for.
 */
export async function checkQuickly(request: BuildRequest): Promise<void> {
  if ((await answerWithin(request, quickCheckMs)) === false) throw overtaken(request);
}

/** Undefined if there was no answer in time; a failure that arrives later is ignored. */
async function answerWithin(request: BuildRequest, ms: number): Promise<boolean | undefined> {
  const answered = new AbortController();
  let current: boolean | undefined;
  let failed: { readonly error: unknown } | undefined;
  void request
    .verify()
    .then(
      (answer) => {
        current = answer;
      },
      (error: unknown) => {
        failed = { error };
      },
    )
    .finally(() => answered.abort());
  await pause(ms, answered.signal);
  if (failed !== undefined) throw failed.error;
  return current;
}

function overtaken({ spec }: BuildRequest): HostError {
  return new HostError("SCHEMA_CHANGED", `${spec.key} is out of date: the schema has changed`);
}
