/** The entry of a cell's thread. */
import { enableCompileCache, flushCompileCache } from "node:module";
import { workerData } from "node:worker_threads";
import type { CellSetup, CellTask } from "../src/shared/protocol/messages.ts";
import { shareAbortReason } from "./graphile/abort-reason.ts";
import { Patching } from "./graphile/patching.ts";
import { deferTransliteration } from "./graphile/transliteration.ts";

// The setting of the main thread does not reach threads. What is imported from here on is compiled once per machine.
enableCompileCache();

// Grafast's development mode checks every step of every plan; who wants it sets the variable.
process.env["GRAPHILE_ENV"] ??= "production";

const setup: CellSetup = workerData;
const patching = new Patching(setup.patches);
patching.apply("abort-reason", shareAbortReason);
patching.apply("transliteration", deferTransliteration);

const thread = import("./thread.ts").then(({ CellThread }) => {
  // Not only when the thread ends: it is for the next one to start from.
  flushCompileCache();
  return new CellThread(setup, patching);
});

export default async (task: CellTask): Promise<unknown> => (await thread).handle(task);
