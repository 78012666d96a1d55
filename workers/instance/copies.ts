/** Loads a preset in a thread of its own, and tells of which packages there are two copies then. */
import { parentPort, workerData } from "node:worker_threads";
import { loadedCopies } from "../../src/shared/kernel/copies.ts";

await import("postgraphile");
// What is wrong with the preset itself, a build says.
await import(workerData.preset).catch(() => undefined);
parentPort?.postMessage(loadedCopies());
// A preset may have left something running.
process.exit();
