import { env } from "node:process";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/cluster.ts"],
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
  },
});
