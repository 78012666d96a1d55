/** Vitest's global setup: one throwaway PostgreSQL server for the whole run. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startEmbedded } from "../../src/pg/embedded.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Superuser, database `postgres`. Tests take a database of their own from `support/database.ts`. */
    clusterUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), "rowhouse-test-"));
  const server = await startEmbedded({ directory, persistent: false, maxConnections: 200 });
  project.provide("clusterUrl", server.url);
  return () => server.close();
}
