import { env } from "node:process";
import { defineConfig } from "vitest/config";
import { coreFiles } from "./test/support/core-files.ts";
import { hasPostgres15 } from "./test/support/postgres-15.ts";

const hasOlder = hasPostgres15();

export default defineConfig({
  test: {
    // Two cores: more files at once only makes each of them slower and their time limits tighter.
    maxWorkers: 2,
    pool: "forks",
    testTimeout: 60_000,
    // What is waited for comes when it comes: a second is not enough where two hosts share two cores.
    expect: { poll: { timeout: 20_000 } },
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    reporters: env["VITEST_REPORT"] === undefined ? ["default"] : ["default", "json"],
    ...(env["VITEST_REPORT"] === undefined ? {} : { outputFile: { json: env["VITEST_REPORT"] } }),
    projects: [
      {
        extends: true,
        test: {
          name: "postgres-18",
          include: ["test/**/*.test.ts"],
          globalSetup: ["test/support/cluster.ts"],
        },
      },
      ...(hasOlder
        ? [
            {
              extends: true as const,
              test: {
                name: "postgres-15",
                include: [...coreFiles],
                globalSetup: ["test/support/cluster-15.ts"],
              },
            },
          ]
        : []),
    ],
  },
});
