/** The entry of a short-lived thread that tells the front what becomes of the patches; it loads none of the packages. */
import { flushCompileCache } from "node:module";
import { parentPort } from "node:worker_threads";
import { installedVersion } from "../src/shared/kernel/installed.ts";
import { patchReports } from "./graphile/patches.ts";

parentPort?.postMessage(patchReports(installedVersion));
// So that the next process need not strip the types of these files: 200 ms of CPU without it.
flushCompileCache();
