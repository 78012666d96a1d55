/** Vitest's global setup: one throwaway PostgreSQL server for the whole run, of the version that comes with the project. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startEmbedded } from "../../src/embedded/server.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Connects as superuser to the database `postgres`. Tests get a database of their own from `support/database.ts`. */
    clusterUrl: string;
    /** The major version of that server. */
    postgresMajor: number;
  }
}

export default function setup(project: TestProject): Promise<() => Promise<void>> {
  return startCluster(project, 18);
}

/** Starts a server for the tests of `project`, from the directory `programs` if given, otherwise the project's own. */
export async function startCluster(
  project: TestProject,
  major: number,
  programs?: string,
): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-test-"));
  const server = await startEmbedded({
    directory,
    persistent: false,
    maxConnections: 200,
    ...(programs === undefined ? {} : { programs }),
  });
  project.provide("clusterUrl", server.url);
  project.provide("postgresMajor", major);
  return () => server.close();
}
