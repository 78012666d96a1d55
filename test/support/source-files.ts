/** The project's own files and their imports, for the tests that check the code's layout. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "oxc-parser";

const root = fileURLToPath(new URL("../../", import.meta.url));
const foreign = new Set(["node_modules", ".git", "dist", ".rowhouse", "coverage", "out"]);

export interface SourceFile {
  /** Relative to the project's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** Every file below `folder`, except those that tools and package managers put there. */
export function filesIn(folder = "."): SourceFile[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: false })
    .filter(({ name }) => !foreign.has(name))
    .flatMap((entry): SourceFile[] => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return filesIn(path);
      return entry.isFile() ? [{ path: slashed(path), text: readFileSync(join(root, path), "utf8") }] : [];
    });
}

export interface Module extends SourceFile {
  /** Files of the project that it imports, including type imports. */
  readonly files: readonly string[];
  /** The packages that it imports, by name, and Node's own modules. */
  readonly packages: readonly string[];
  /** Whether it only re-exports. */
  readonly barrel: boolean;
}

/** Every TypeScript module in `folders`. */
export function modulesIn(...folders: readonly string[]): Module[] {
  return folders
    .flatMap((folder) => filesIn(folder))
    .filter(({ path }) => path.endsWith(".ts"))
    .map((file) => parseModule(file));
}

/** The imports of `text`, the content of `path`. */
export function parseModule({ path, text }: SourceFile): Module {
  const { module, program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path} cannot be parsed: ${errors[0]?.message}`);
  const requests = [
    ...module.staticImports.map(({ moduleRequest }) => moduleRequest.value),
    ...module.staticExports.flatMap(({ entries }) =>
      entries.flatMap((entry) => entry.moduleRequest?.value ?? []),
    ),
    // Dynamic imports and imports in types, which the parser's list omits.
    ...[...text.matchAll(/\bimport\(\s*["'`]([^"'`]+)["'`]/g)].flatMap(([, request]) => request ?? []),
  ];
  const own = requests.filter((request) => request.startsWith("."));
  const packages = requests.filter((request) => !request.startsWith("."));
  const exports = program.body.filter(({ type }) => type !== "ImportDeclaration");
  return {
    path,
    text,
    files: [...new Set(own.map((request) => slashed(join(dirname(path), request))))],
    packages: [...new Set(packages.map(packageName))],
    barrel:
      exports.length > 0 &&
      exports.every(
        (node) =>
          node.type === "ExportAllDeclaration" ||
          (node.type === "ExportNamedDeclaration" && node.declaration === null),
      ),
  };
}

function packageName(request: string): string {
  return request.split("/", request.startsWith("@") ? 2 : 1).join("/");
}

function slashed(path: string): string {
  return relative(".", path).split(sep).join("/");
}
