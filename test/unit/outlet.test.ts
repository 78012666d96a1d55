import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { bufferBytes, fits, Outlet } from "../../src/observability/outlet.ts";

let directory: string;
let reader: number;
let writer: number;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "rowhouse-outlet-"));
  const pipe = join(directory, "pipe");
  execFileSync("mkfifo", [pipe]);
  reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  writer = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
});
afterEach(() => {
  closeSync(writer);
  rmSync(directory, { recursive: true });
});

/** All that the pipe holds. */
function read(): string {
  const buffer = Buffer.alloc(4 * 1024 * 1024);
  let length = 0;
  try {
    for (;;) {
      const taken = readSync(reader, buffer, length, buffer.length - length, null);
      if (taken === 0) break;
      length += taken;
    }
  } catch {
    // Nothing more at the moment.
  }
  return buffer.toString("utf8", 0, length);
}

function start(descriptor: { fd: number; kind: "file" | "stream" }) {
  const dropped: string[] = [];
  let resumed = 0;
  const outlet = new Outlet({
    descriptor,
    onDrop: (level) => dropped.push(level),
    onResume: () => {
      resumed += 1;
    },
  });
  return { outlet, dropped, resumed: () => resumed };
}

const line = (number: number): string => `${String(number).padStart(6, "0")} ${"x".repeat(992)}\n`;

describe("room", () => {
  it.each([
    ["debug", 0.25],
    ["info", 0.5],
    ["warn", 0.75],
    ["error", 1],
  ] as const)("for %s there is up to %d of it", (level, share) => {
    expect(fits(level, 10, bufferBytes * share - 10)).toBe(true);
    expect(fits(level, 10, bufferBytes * share - 9)).toBe(false);
  });
});

describe("an outlet", () => {
  it("has written a line before the next statement, if there is a reader", () => {
    const { outlet } = start({ fd: writer, kind: "stream" });
    outlet.write("one\n", "info");
    expect(read()).toBe("one\n");
    closeSync(reader);
  });

  it("keeps what its reader has not taken, in order, and drops the less important of what does not fit", async () => {
    const { outlet, dropped, resumed } = start({ fd: writer, kind: "stream" });
    const count = 1_500;
    for (let number = 0; number < count; number += 1) outlet.write(line(number), "info");
    expect(dropped.length).toBeGreaterThan(500);
    expect(new Set(dropped)).toEqual(new Set(["info"]));
    expect(outlet.admits("debug")).toBe(false);
    expect(outlet.admits("error")).toBe(true);
    outlet.write("the worst\n", "error");
    let text = "";
    await vi.waitFor(
      () => {
        text += read();
        expect(resumed()).toBe(1);
      },
      { timeout: 20_000, interval: 5 },
    );
    text += read();
    const kept = count - dropped.filter((level) => level === "info").length;
    expect(text).toBe(`${Array.from({ length: kept }, (_, number) => line(number)).join("")}the worst\n`);
    closeSync(reader);
  });

  it("ends even if its reader has stopped or is gone", () => {
    const { outlet, dropped } = start({ fd: writer, kind: "stream" });
    for (let number = 0; number < 300; number += 1) outlet.write(line(number), "error");
    outlet.flush();
    expect(dropped).toEqual([]);
    closeSync(reader);
    outlet.flush();
    expect(dropped.length).toBeGreaterThan(100);
    outlet.write("nobody\n", "error");
    outlet.flush();
  });

  it("writes a file in order, and loses nothing at the end", async () => {
    const path = join(directory, "log");
    const fd = openSync(path, "w");
    const { outlet } = start({ fd, kind: "file" });
    const expected = Array.from({ length: 400 }, (_, number) => line(number));
    for (const each of expected.slice(0, 200)) outlet.write(each, "info");
    await vi.waitFor(() => expect(readFileSync(path, "utf8")).toBe(expected.slice(0, 200).join("")));
    for (const each of expected.slice(200)) outlet.write(each, "error");
    outlet.flush();
    // What Node's pool was at just then may come behind it.
    await vi.waitFor(() => expect(readFileSync(path, "utf8").match(/.+\n/g)?.sort()).toEqual(expected));
    closeSync(fd);
    closeSync(reader);
  });
});
