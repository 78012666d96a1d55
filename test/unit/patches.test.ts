import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import { patchFaults } from "../../src/app/patch-reports.ts";
import { diagnosePatches } from "../../src/cli/doctor-findings.ts";
import { describe as describeLine } from "../../src/observability/log-line.ts";
import { createMetrics } from "../../src/observability/metrics.ts";
import { installedVersion } from "../../src/shared/kernel/installed.ts";
import type { Patch } from "../../src/shared/kernel/patch-policy.ts";
import { patches, patchReports } from "../../workers/graphile/patches.ts";
import { filesIn } from "../support/source-files.ts";

const list: readonly Patch[] = patches;
const dependencies: Readonly<Record<string, string>> = manifest.dependencies;
const byVersion = list.filter(({ checked }) => checked === "versions");
const packages = [...new Set(byVersion.flatMap(({ versions }) => Object.keys(versions)))];

const faking = (name: string, version: string | null) =>
  patchReports((each) => (each === name ? version : installedVersion(each)));

describe("the list of patches", () => {
  it("has every patch once, with files that are there, and an upstream change for each", () => {
    expect(new Set(list.map(({ name }) => name)).size).toBe(list.length);
    expect(list.flatMap(({ files }) => files).filter((file) => !existsSync(file))).toEqual([]);
    const upstream = readFileSync("docs/upstream.md", "utf8");
    expect(list.filter(({ name }) => !upstream.includes(`\n## ${name}\n`)).map(({ name }) => name)).toEqual(
      [],
    );
  });

  it("names every file that replaces a member of something it did not make", () => {
    const replaces =
      /Object\.define(?:Property|Properties)\(|Reflect\.(?:set|defineProperty)\(|\.prototype\b|Object\.assign\((?:console|stream|TYPES|middleware|executor)\b|declare module "(?!.*\.ts")/;
    const listed = new Set(["workers/graphile/patches.ts", ...list.flatMap(({ files }) => files)]);
    const others = [...filesIn("src"), ...filesIn("workers")]
      .filter(({ path, text }) => path.endsWith(".ts") && replaces.test(text) && !listed.has(path))
      .map(({ path }) => path);
    expect(others).toEqual([]);
  });

  it("was read against the versions that are installed, each a direct dependency at exactly that version", () => {
    expect(patchReports(installedVersion).filter(({ state }) => state !== "applied")).toEqual([]);
    for (const [name, known] of list.flatMap(({ versions }) => Object.entries(versions))) {
      if (name === "node") expect(known).toContain(dependencies[name]?.split(".")[0]);
      else expect([name, known]).toEqual([name, expect.arrayContaining([dependencies[name]])]);
    }
  });
});

describe.each(packages)("where %s has a version that nobody read", (name) => {
  it.each(["99.0.0", null])(
    "(%s), what is for safety refuses and what is for speed steps aside",
    (version) => {
      for (const [index, { state, reason }] of faking(name, version).entries()) {
        const { purpose, checked, versions } = patches[index] ?? {};
        const concerned = checked === "versions" && Object.hasOwn(versions ?? {}, name);
        const expected = purpose === "safety" ? "refused" : "plain";
        expect(state).toBe(concerned ? expected : "applied");
        if (!concerned) continue;
        expect(reason).toContain(
          version === null ? `${name} was not found` : `${name} 99.0.0 was not tested`,
        );
        expect(reason).toMatch(
          name === "node" ? /Run Node\.js 24$/ : /npm install --save-exact [\w@/.-]+@\d+\.\d+\.\d+/,
        );
      }
    },
  );

  it("a fault with its cure keeps the host from starting wherever safety depends on it, and nowhere else", () => {
    const reports = faking(name, "99.0.0");
    const refused = reports.filter(({ state }) => state === "refused");
    expect(patchFaults(reports)).toEqual(
      refused.map(({ name: patch, reason }) => ({ path: `patch ${patch}`, message: reason })),
    );
    const needed = byVersion.some(({ purpose, versions }) => purpose === "safety" && name in versions);
    expect(refused.length > 0).toBe(needed);
    for (const { reason } of refused) expect(reason).toContain(`npm install --save-exact ${name}@`);
  });

  it("the doctor has a line for each patch that is not applied, a failure for what is refused", () => {
    const reports = faking(name, "99.0.0");
    const others = reports.filter(({ state }) => state !== "applied");
    const [summary, ...lines] = diagnosePatches(reports);
    expect(summary).toEqual({
      level: "ok",
      about: "patches",
      text: `${list.length - others.length} of ${list.length} patches to dependencies are applied`,
    });
    expect(lines).toEqual(
      others.map(({ name: patch, state, reason }) => ({
        level: state === "refused" ? "fail" : "warn",
        about: `patch ${patch}`,
        text: `${state}: ${reason}`,
      })),
    );
  });

  it("the log warns of what steps aside, and the metric has one state for each patch", async () => {
    const metrics = createMetrics(() => null);
    for (const report of faking(name, "99.0.0")) {
      const observation = { kind: "patch.state", ...report } as const;
      metrics.observe(observation);
      const levels = { applied: "debug", plain: "warn", refused: "error" };
      expect(describeLine(observation).level).toBe(levels[report.state]);
    }
    const text = await metrics.text();
    for (const { name: patch, state } of faking(name, "99.0.0")) {
      for (const each of ["applied", "plain", "refused"]) {
        expect(text).toContain(`rowhouse_patches{name="${patch}",state="${each}"} ${each === state ? 1 : 0}`);
      }
    }
  });
});

it("a later minor version of Node.js is known, as its major one is", () => {
  expect(faking("node", "24.99.1").filter(({ state }) => state !== "applied")).toEqual([]);
});
