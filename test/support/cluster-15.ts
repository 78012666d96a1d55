/** Vitest's global setup of the tests that also run on PostgreSQL 15: a server from the system's packages. */
import type { TestProject } from "vitest/node";
import { startCluster } from "./cluster.ts";
import { postgres15Programs } from "./postgres-15.ts";

export default function setup(project: TestProject): Promise<() => Promise<void>> {
  const programs = postgres15Programs();
  if (programs === null) throw new Error("PostgreSQL 15 is not installed");
  return startCluster(project, 15, programs);
}
