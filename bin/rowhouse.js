#!/usr/bin/env node
// Runs the command line on a Node.js that strips types (22.18 or later): the one that runs this file, or else
// the one that the npm package `node` brings.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
// Not by name: Node.js 20 has no enableCompileCache, and would refuse to load this file.
import nodeModule from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const built = join(root, "dist", "src", "cli", "main.js");
const entry = existsSync(built) ? built : join(root, "src", "cli", "main.ts");
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

/**
 * V8 (Node 24.21) lets the main thread's young generation grow to 2 × 32 MB under load, and keeps it: resident memory is then
 * 288 MB. With 4 it is 251 MB at the same CPU per request, and with 2 another 5 MB less at 1.01 times that CPU. Only a flag at
 * the start can bound it, and that flag would apply to every thread, so the process replaces itself with one that has the flag,
 * and resets it before any thread starts.
 */
const frontFlag = "--max-semi-space-size=2";

function boundFront() {
  const place = process.execArgv.indexOf(frontFlag);
  if (place !== -1) {
    process.execArgv.splice(place, 1);
    setFlagsFromString("--max-semi-space-size=0");
  } else if (process.argv[2] === "serve" && process.execve !== undefined && !process.connected) {
    const argv = [process.execPath, frontFlag, ...process.execArgv, ...process.argv.slice(1)];
    process.execve(process.execPath, argv, process.env);
  }
}

if (major > 22 || (major === 22 && minor >= 18)) {
  boundFront();
  // Before the first file with types: cached files need no compiler to strip them.
  nodeModule.enableCompileCache();
  await import(entry);
} else {
  runOnOwn();
}

/** Runs this file again on the Node.js that the npm package `node` brings. */
function runOnOwn() {
  let node;
  try {
    const place = nodeModule.createRequire(import.meta.url).resolve("node/package.json");
    node = join(dirname(place), "bin", "node");
  } catch {}
  if (node === undefined || !existsSync(node)) {
    console.error(
      `rowhouse: this is Node.js ${process.versions.node}; 22.18 or later is needed, and the npm package "node", which brings one, is not installed`,
    );
    process.exitCode = 1;
    return;
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  // A terminal's Ctrl-C reaches the child directly; passed on as well, it would count as the second signal.
  process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  // A vanished terminal signals both processes; the child ignores the repetition.
  process.on("SIGHUP", () => child.kill("SIGHUP"));
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === null ? 0 : 1);
  });
}
