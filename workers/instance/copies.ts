/** Loads a preset in a thread of its own, and reports which packages are then loaded twice. */
import { parentPort, workerData } from "node:worker_threads";
import { loadedCopies } from "../../src/shared/kernel/copies.ts";

await import("postgraphile");
// Faults of the preset itself are reported by a build.
await import(workerData.preset).catch(() => undefined);
parentPort?.postMessage(loadedCopies());
// The preset may have left timers or handles open.
process.exit();
