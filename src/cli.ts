/** `rowhouse <command>`. Exit codes: 0 fine; 1 a named fault of the input or the environment; 2 wrong usage. */
import { enableCompileCache } from "node:module";

enableCompileCache();
const { runCli } = await import("./cli/run.ts");
process.exitCode = await runCli(process.argv.slice(2));
