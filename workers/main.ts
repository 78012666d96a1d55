/** The entry point of a cell's thread. */
import { enableCompileCache, flushCompileCache } from "node:module";
import { workerData } from "node:worker_threads";
import type { CellSetup, CellTask } from "../src/shared/protocol/messages.ts";
import { shareAbortReason } from "./graphile/abort-reason.ts";
import { Patching } from "./graphile/patching.ts";
import { deferTransliteration } from "./graphile/transliteration.ts";

// The main thread's setting does not reach threads. Modules imported from here on are compiled once per machine.
enableCompileCache();

// Grafast's development mode checks every step of every plan; set the variable to enable it.
process.env["GRAPHILE_ENV"] ??= "production";

const setup: CellSetup = workerData;
const patching = new Patching(setup.patches);
patching.apply("abort-reason", shareAbortReason);
patching.apply("transliteration", deferTransliteration);

const thread = import("./cell-thread.ts").then(({ CellThread }) => {
  // Flushed now, not only when the thread ends, so that the next thread can use it.
  flushCompileCache();
  return new CellThread(setup, patching);
});

export default async (task: CellTask): Promise<unknown> => (await thread).handle(task);
