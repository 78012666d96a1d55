/** A user's project: a folder with a preset, and Rowhouse among its packages, linked or as published. */
import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { directoryWith } from "./host.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

export interface UserProject {
  readonly path: string;
  /** Rowhouse's command line, as installed in the project. */
  readonly cli: string;
  remove(): Promise<void>;
}

/** The first TypeScript example in `docs/plugins.md`. */
export async function documentedPreset(): Promise<string> {
  const text = await readFile(join(root, "docs/plugins.md"), "utf8");
  const [, block] = /```ts\n(\/\/ preset\.ts\n[\s\S]*?)```/.exec(text) ?? [];
  if (block === undefined) throw new Error("no preset.ts in docs/plugins.md");
  return block;
}

export async function userProject(
  kind: "linked" | "published",
  files: Record<string, string>,
): Promise<UserProject> {
  const { path, remove } = await directoryWith({ ...files, "package.json": '{ "type": "module" }' });
  const modules = join(path, "node_modules");
  await mkdir(modules);
  const own = join(modules, "rowhouse");
  for (const name of await readdir(join(root, "node_modules"))) {
    if (!name.startsWith(".")) await symlink(join(root, "node_modules", name), join(modules, name));
  }
  if (kind === "linked") await symlink(root, own);
  else await publish(own);
  return {
    path,
    cli: kind === "linked" ? join(root, "src/cli/main.ts") : join(own, "bin/rowhouse.js"),
    remove,
  };
}

/** Builds anew what `npm pack` would put into the package. */
async function publish(target: string): Promise<void> {
  await mkdir(target);
  for (const name of ["bin", "package.json"])
    await cp(join(root, name), join(target, name), { recursive: true });
  const faults = await tsc(root, ["-p", "tsconfig.build.json", "--outDir", join(target, "dist")]);
  if (faults.length > 0) throw new Error(faults.join("\n"));
  const filter = (source: string): boolean => !/\.[^/.]+$/.test(source) || source.endsWith(".sql");
  await cp(join(root, "src"), join(target, "dist/src"), { recursive: true, filter });
}

/** Runs the compiler; returns its errors, line by line. */
async function tsc(cwd: string, args: readonly string[]): Promise<string[]> {
  const compiler = join(
    dirname(createRequire(import.meta.url).resolve("typescript/package.json")),
    "bin/tsc",
  );
  const { stdout } = await run(process.execPath, [compiler, ...args], { cwd }).catch(
    (error: { readonly stdout: string }) => error,
  );
  return stdout.split("\n").filter((line) => line !== "");
}

/** Type errors in `files` and in Rowhouse's own declarations; those in other packages are ignored. */
export async function typeFaults(project: UserProject, files: readonly string[]): Promise<string[]> {
  const compilerOptions = {
    module: "nodenext",
    target: "es2024",
    strict: true,
    noEmit: true,
    types: ["node"],
  };
  await writeFile(join(project.path, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const faults = await tsc(project.path, ["-p", "tsconfig.json"]);
  return faults.filter((line) => !line.startsWith("../") && !line.startsWith(" "));
}

/** The output of a module of the project. */
export async function runModule(project: UserProject, file: string): Promise<string> {
  return (await run(process.execPath, [file], { cwd: project.path })).stdout;
}
