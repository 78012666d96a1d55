#!/usr/bin/env node
// Runs the command line on a Node.js that strips types (22.18 or later): the one that runs this file, or else
// the one that the npm package `node` brought.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
// As a whole: Node.js 20 has no enableCompileCache, and would refuse this file for its name.
import nodeModule from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const built = join(root, "dist", "src", "cli", "main.js");
const entry = existsSync(built) ? built : join(root, "src", "cli", "main.ts");
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

/**
 * V8 (Node 24.21) lets the young generation of the main thread grow to 2 × 32 MB under load, and keeps it: resident memory of the
 * process 288 MB, with 4 251, at the same CPU per request; 2 is 5 MB less than that, at 1.01 of it. Nothing but a flag at the start bounds it, and that flag would be
 * every thread's: so the process begins again with it, in place, and takes it back before there are threads.
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
  // Ahead of the first file with types: what is in the cache needs no compiler to strip them.
  nodeModule.enableCompileCache();
  await import(entry);
} else {
  runOnOwn();
}

/** The same file again, on the Node.js that the npm package `node` brought. */
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
  // A terminal's Ctrl-C reaches the child by itself; passed on as well, it would be the second signal.
  process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  // A terminal that goes away tells both; the child takes a second one for the same.
  process.on("SIGHUP", () => child.kill("SIGHUP"));
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === null ? 0 : 1);
  });
}
