/**
 * `rowhouse <command>`. Exit codes: 0 success; 1 a reported fault of the input or the environment; 2 wrong
 * usage.
 */
import { enableCompileCache } from "node:module";

// Threads take the compile cache from the environment only. A thread whose entry is not in the cache loads
// the compiler that strips types: a host with two cells takes 255 MB with it and 215 without (Node 24.21,
// x64).
const { directory } = enableCompileCache();
if (directory !== undefined) process.env["NODE_COMPILE_CACHE"] ??= directory;
const { runCli } = await import("./run.ts");
process.exitCode = await runCli(process.argv.slice(2));
