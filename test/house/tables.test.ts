import { describe, expect, it } from "vitest";
import { type ErrorCode, errorTable, HostError } from "../../src/shared/kernel/errors.ts";
import {
  type CellPhase,
  cellStep,
  type HostPhase,
  hostStep,
  type InstancePhase,
  instanceStep,
} from "../../src/shared/kernel/phase.ts";
import { filesIn } from "../support/source-files.ts";

/** The statuses that clients are promised. */
const statuses = {
  TENANT_UNKNOWN: 404,
  SCHEMA_NOT_FOUND: 404,
  TOKEN_INVALID: 401,
  TOKEN_EXPIRED: 401,
  BODY_TOO_LARGE: 413,
  DEADLINE: 408,
  MEDIA_TYPE: 415,
  BAD_REQUEST: 400,
  SCHEMA_CHANGED: 409,
  BUILD_QUEUE_FULL: 503,
  BUILD_TIMEOUT: 503,
  NO_CAPACITY: 503,
  CELL_LOST: 503,
  DATABASE_UNREACHABLE: 503,
  DATABASE_READ_ONLY: 503,
  SHUTTING_DOWN: 503,
  BUILD_FAILED: 500,
  INTERNAL: 500,
} as const satisfies Partial<Record<ErrorCode, number>>;

describe("the table of errors", () => {
  it("gives each code the status that clients are promised", () => {
    expect(errorTable).toMatchObject(
      Object.fromEntries(Object.entries(statuses).map(([code, status]) => [code, { status }])),
    );
  });

  it("calls an error retryable exactly if its status is 503", () => {
    const odd = Object.entries(errorTable).filter(
      ([, { status, retryable }]) => retryable !== (status === 503),
    );
    expect(odd).toEqual([]);
  });

  it("keeps the message of an internal error from clients", () => {
    const secret = "password=hunter2";
    const inner: ErrorCode[] = [
      "INTERNAL",
      "BUILD_FAILED",
      "DATABASE_UNREACHABLE",
      "CELL_LOST",
      "TOKEN_INVALID",
    ];
    for (const code of inner) expect(new HostError(code, secret).publicText).not.toContain(secret);
  });
});

/** One entry per phase: a new phase does not compile until it is listed here. */
const cellPhases: Record<CellPhase, true> = {
  starting: true,
  spare: true,
  serving: true,
  condemned: true,
  draining: true,
  terminating: true,
  gone: true,
};
const instancePhases: Record<InstancePhase, true> = {
  building: true,
  live: true,
  draining: true,
  gone: true,
};
const hostPhases: Record<HostPhase, true> = { starting: true, ready: true, draining: true, closed: true };

/** For each phase, those that can follow it. */
function steps(phases: object, step: (from: never, to: never) => unknown): Map<string, string[]> {
  const names = Object.keys(phases);
  const allowed = (from: string, to: string): boolean => {
    try {
      step(from as never, to as never);
      return true;
    } catch {
      return false;
    }
  };
  return new Map(names.map((from) => [from, names.filter((to) => to !== from && allowed(from, to))]));
}

describe.each([
  ["a cell", steps(cellPhases, cellStep), "gone"],
  ["an instance", steps(instancePhases, instanceStep), "gone"],
  ["the host", steps(hostPhases, hostStep), "closed"],
])("%s", (_, next, last) => {
  it("can end from every phase in one step, and then remains ended", () => {
    for (const [phase, following] of next) {
      if (phase === last) expect(following).toEqual([]);
      else expect([phase, following]).toEqual([phase, expect.arrayContaining([last])]);
    }
  });

  it("never returns to a phase that it has left, except for a cell whose last instance was released", () => {
    const reachable = (from: string, seen = new Set<string>()): Set<string> => {
      for (const to of next.get(from) ?? []) {
        if (!seen.has(to)) reachable(to, seen.add(to));
      }
      return seen;
    };
    const again = [...next.keys()].filter((phase) => reachable(phase).has(phase));
    expect(again.filter((phase) => phase !== "spare" && phase !== "serving")).toEqual([]);
  });
});

describe("an observation", () => {
  it("of every kind has an interpreter", () => {
    const union =
      filesIn("src/observability").find(({ path }) => path.endsWith("observation.ts"))?.text ?? "";
    const kinds = [...union.matchAll(/kind: "([a-z.-]+)"/g)].map(([, kind]) => kind ?? "");
    expect(kinds.length).toBeGreaterThan(20);
    const interpreters = filesIn("src/observability")
      .filter(({ path }) => !path.endsWith("observation.ts"))
      .map(({ text }) => text)
      .join("\n");
    expect(kinds.filter((kind) => !interpreters.includes(`"${kind}"`))).toEqual([]);
  });
});
