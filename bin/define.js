// The package's main export.
import { load } from "./load.js";

export const { defineConfig } = await load("src/config/define");
