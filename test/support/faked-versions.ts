/** A project with Rowhouse and copies of the packages that it patches, whose versions can be faked. */
import { cp, mkdir, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { directoryWith } from "./host.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Packages that find each other by their location, so none of them may be a link to the checkout's. */
const copied = [
  "@dataplan/json",
  "@dataplan/pg",
  "@graphile/lru",
  "grafast",
  "grafserv",
  "graphile-build",
  "graphile-build-pg",
  "graphile-config",
  "graphile-utils",
  "pg-introspection",
  "pg-sql2",
  "postgraphile",
  "tamedevil",
  "transliteration",
];

export interface FakedProject {
  readonly path: string;
  readonly cli: string;
  /** Makes the copy of `name` claim to be `version`; null restores its own version. */
  fake(name: string, version: string | null): Promise<void>;
  remove(): Promise<void>;
}

/** Rowhouse's sources lie beside node_modules, because Node.js strips no types below it. */
export async function fakedProject(files: Record<string, string>): Promise<FakedProject> {
  const { path, remove } = await directoryWith({ ...files, "package.json": '{ "type": "module" }' });
  const modules = join(path, "node_modules");
  const scopes = new Set(copied.flatMap((name) => (name.startsWith("@") ? [name.split("/")[0] ?? ""] : [])));
  await mkdir(modules);
  for (const name of await readdir(join(root, "node_modules"))) {
    if (name.startsWith(".") || copied.includes(name) || scopes.has(name)) continue;
    await symlink(join(root, "node_modules", name), join(modules, name));
  }
  for (const name of copied) {
    await cp(await realpath(join(root, "node_modules", name)), join(modules, name), { recursive: true });
  }
  for (const name of ["bin", "src", "workers", "package.json"]) {
    await cp(join(root, name), join(path, "rowhouse", name), { recursive: true });
  }
  return {
    path,
    cli: join(path, "rowhouse/src/cli/main.ts"),
    async fake(name, version) {
      const own: unknown = JSON.parse(
        await readFile(join(root, "node_modules", name, "package.json"), "utf8"),
      );
      const target = join(modules, name, "package.json");
      // Anything else is a link to the checkout's folder, and must not be written through.
      if (!copied.includes(name)) throw new Error(`${name} is not a copy`);
      await rm(target);
      await writeFile(target, JSON.stringify({ ...Object(own), ...(version === null ? {} : { version }) }));
    },
    remove,
  };
}
