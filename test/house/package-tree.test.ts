/** What `npm install rowhouse` would install into an empty project: resolved by npm from the registry, without downloads. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import lock from "../../package-lock.json" with { type: "json" };

const run = promisify(execFile);

interface Locked {
  readonly version?: string;
}

/** The versions of a lock file's packages, by path. */
const placesIn = (packages: Readonly<Record<string, Locked>>): Map<string, string> =>
  new Map(
    Object.entries(packages).flatMap(([path, { version }]) =>
      path.startsWith("node_modules/") && version !== undefined ? [[path, version]] : [],
    ),
  );

const unreachable = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED/;

let directory: string;
/** Null if the registry cannot be reached. */
let installed: Map<string, string> | null = null;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rowhouse-pack-"));
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", directory]);
  const [tarball = ""] = (await readdir(directory)).filter((name) => name.endsWith(".tgz"));
  const project = join(directory, "project");
  await mkdir(project);
  await writeFile(join(project, "package.json"), '{ "private": true }');
  const quietly = ["--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
  try {
    await run("npm", ["install", ...quietly, join("..", tarball)], { cwd: project });
  } catch (error) {
    if (unreachable.test(String(error))) return;
    throw error;
  }
  installed = placesIn(JSON.parse(await readFile(join(project, "package-lock.json"), "utf8")).packages);
}, 180_000);
afterAll(() => rm(directory, { recursive: true, force: true }));

describe("npm install rowhouse, in an empty project,", () => {
  it("brings every direct dependency in its tested version, without a second copy", ({ skip }) => {
    if (installed === null) return skip("the registry cannot be reached");
    const names = Object.keys(manifest.dependencies);
    const copies = [...installed].filter(([path]) =>
      names.some((name) => path.endsWith(`node_modules/${name}`)),
    );
    expect(copies.toSorted()).toEqual(
      Object.entries(manifest.dependencies)
        .map(([name, version]) => [`node_modules/${name}`, version])
        .toSorted(),
    );
  });

  it("brings the versions of this project's own lock file", () => {
    const locked = placesIn(lock.packages);
    for (const [name, version] of Object.entries(manifest.dependencies)) {
      expect([name, locked.get(`node_modules/${name}`)]).toEqual([name, version]);
    }
  });
});
