// Copies the SQL files, which the compiler does not emit and the built sources read beside themselves. Part of `npm run build`.
import { cpSync, globSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
for (const file of globSync("src/**/*.sql", { cwd: root })) cpSync(`${root}${file}`, `${root}dist/${file}`);
