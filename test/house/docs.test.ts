/** What the documentation names exists: links, files, folders, metrics and error codes. */
import { posix } from "node:path";
import { describe, expect, it } from "vitest";
import { findingCodes } from "../../src/role-safety/finding.ts";
import { errorTable } from "../../src/shared/kernel/errors.ts";
import { filesIn } from "../support/source-files.ts";

const all = filesIn();
const paths = new Set(all.map(({ path }) => path));
const isFolder = (path: string): boolean => all.some((file) => file.path.startsWith(`${path}/`));
const pages = all.filter(({ path }) => /^(?:docs\/.*|[^/]+)\.md$/.test(path));
const textOf = (path: string): string => pages.find((page) => page.path === path)?.text ?? "";

/** Without code blocks, which contain no links or headings. */
const prose = (text: string): string => text.replaceAll(/^(?:```[\s\S]*?^```| {4}.*)$/gm, "");

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, heading = ""] of prose(text).matchAll(/^#+ (.+)$/gm)) {
    const slug = heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-");
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count += 1) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** The dead links of a page. */
function deadLinks(path: string, text: string): string[] {
  const targets = [...prose(text).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target = ""]) => target);
  return targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false;
    const [file = "", anchor] = target.split("#");
    const to = file === "" ? path : posix.join(posix.dirname(path), file);
    if (!paths.has(to)) return true;
    return anchor !== undefined && !anchorsOf(textOf(to)).has(anchor);
  });
}

/** This page names files of the dependencies' repositories. */
const upstream = "docs/upstream.md";

/** Places below the code's folders that a page names in code style and that do not exist. */
function missingPlaces(text: string): string[] {
  const named = [...prose(text).matchAll(/`((?:src|workers|bench|test|bin)\/[\w./-]+)`/g)];
  return named
    .map(([, place = ""]) => place.replace(/\/$/, ""))
    .filter((place) => !(paths.has(place) || isFolder(place) || place.startsWith("bench/out")));
}

describe("a page of the documentation", () => {
  it("is found by these tests", () => {
    expect(pages.length).toBeGreaterThan(20);
  });

  it.each(pages.map(({ path, text }) => [path, text]))("has no dead links: %s", (path, text) => {
    expect(deadLinks(path, text)).toEqual([]);
  });

  it.each(pages.filter(({ path }) => path !== upstream).map(({ path, text }) => [path, text]))(
    "names only files that exist: %s",
    (_, text) => {
      expect(missingPlaces(text)).toEqual([]);
    },
  );

  it("can be reached from the README", () => {
    const reached = new Set(["README.md"]);
    for (const path of reached) {
      for (const [, target = ""] of textOf(path).matchAll(/\]\(([^()\s#]+\.md)/g)) {
        reached.add(posix.join(posix.dirname(path), target));
      }
    }
    expect(pages.map(({ path }) => path).filter((path) => !reached.has(path))).toEqual([]);
  });
});

describe("the map of the code", () => {
  it("has a row for each folder", () => {
    const map = textOf("docs/architecture.md");
    const folders = all.flatMap(
      ({ path }) => /^(?:src\/shared|src|workers)\/[^/]+(?=\/)/.exec(path)?.[0] ?? [],
    );
    const unmapped = [...new Set(folders)].filter(
      (folder) => folder !== "src/shared" && !map.includes(`\`${folder}\``),
    );
    expect(unmapped).toEqual([]);
  });
});

describe("the page about operations", () => {
  const page = textOf("docs/operations.md");

  it("has every metric", () => {
    const source = all.find(({ path }) => path === "src/observability/metrics.ts")?.text ?? "";
    const metrics = [...source.matchAll(/\b(?:counter|gauge|histogram)\(\s*"(\w+)"/g)].map(
      ([, name]) => name,
    );
    expect(metrics.length).toBeGreaterThan(20);
    expect(metrics.filter((name) => !new RegExp(`\`${name}[\`{]`).test(page))).toEqual([]);
  });

  it("has every code of a finding about roles", () => {
    expect(findingCodes.filter((code) => code !== "MORE" && !page.includes(`\`${code}\``))).toEqual([]);
  });

  it("has every error code that a client can see", () => {
    const internal = [
      "BUILD_NOT_SHAREABLE",
      "BUILD_READS_MORE",
      "CANCELLED",
      "CONFIG_INVALID",
      "EMBEDDED_UNAVAILABLE",
    ];
    const codes = Object.keys(errorTable).filter((code) => !internal.includes(code));
    expect(codes.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
  });
});

describe("these tests recognise", () => {
  it.each([
    ["a link to a missing page", "[a](nowhere.md)"],
    ["a link to a missing heading", "[a](#nowhere)"],
    ["a link to a missing heading of another page", "[a](operations.md#nowhere)"],
  ])("%s", (_, text) => {
    expect(deadLinks("docs/x.md", text)).toHaveLength(1);
  });

  it("no fault in links that exist, external links and code blocks", () => {
    const text =
      "## A `b`, c\n\n[a](https://example.com) [b](operations.md#memory)\n\n```\n[c](nowhere.md)\n```\n";
    expect(deadLinks("docs/operations.md", `${text}[d](#memory)`)).toEqual([]);
    expect([...anchorsOf(text)]).toEqual(["a-b-c"]);
  });

  it("a missing file or folder", () => {
    expect(missingPlaces("`src/app/nothing.ts` `src/nowhere` `src/app/host.ts` `src/app`")).toEqual([
      "src/app/nothing.ts",
      "src/nowhere",
    ]);
  });
});
