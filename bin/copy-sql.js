// Part of `npm run build`: what the compiler does not bring along. The sources read these files beside themselves.
import { cpSync, globSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
for (const file of globSync("src/**/*.sql", { cwd: root })) cpSync(`${root}${file}`, `${root}dist/${file}`);
