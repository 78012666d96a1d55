// The package's main export: what was built, or in a checkout the source itself.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const built = new URL("../dist/src/config/define.js", import.meta.url);
const source = new URL("../src/config/define.ts", import.meta.url);

export const { defineConfig } = await import(existsSync(fileURLToPath(built)) ? built.href : source.href);
