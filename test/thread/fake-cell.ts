/** A cell entry that speaks the protocol and does what a blueprint's settings or a request's path tell it to. */
import { execSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { BroadcastChannel, type MessagePort, workerData } from "node:worker_threads";
import { collectGarbage } from "../../src/shared/memory/gc.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { decodeTasks, encodeReplies } from "../../src/shared/protocol/codec.ts";
import type {
  Answer,
  BuildReport,
  CellMessage,
  CellSetup,
  CellTask,
  ControlMessage,
  LaneTask,
  Reply,
  RequestTask,
} from "../../src/shared/protocol/messages.ts";

const setup: CellSetup = workerData;
const ledger = new Int8Array(setup.ledger);
/** The memory that each instance holds. */
const instances = new Map<number, unknown[]>();
const leaked: unknown[] = [];
/** The slots of running requests. */
const running = new Set<number>();
/** To be reported with the next collection. */
const unmeasured: { instance: number; heapBytes: number }[] = [];
let control: MessagePort | null = null;
let throwsOnPing = false;

const tell = (message: CellMessage): void => control?.postMessage(message);
const log = (message: string): void => tell({ kind: "log", level: "info", message });
/** 1 MB of heap, all of it live. */
const megabyte = (): unknown => new Array(131_072).fill(0);

const perform = async (task: CellTask): Promise<Reply<unknown>> => {
  switch (task.kind) {
    case "open":
      if (setup.preset === "fails") throw new Error("no such preset");
      if (setup.preset === "grows") grow("/grow-array");
      control = task.port;
      task.port.on("message", obey);
      return { ok: true, value: null };
    case "build":
      return build(task.instance, task.spec);
    case "release":
      if (!instances.delete(task.instance)) throw new Error("released twice");
      log(`released ${task.instance}`);
      return { ok: true, value: null };
  }
};

export default perform;

async function take(task: LaneTask): Promise<void> {
  if (task.kind === "cancel") log(`cancel ${task.slot}${running.has(task.slot) ? "" : " of nothing"}`);
  else {
    const { number } = task;
    // A request that takes longer than this waits at its gate, or sleeps.
    const waiting = setTimeout(() => tell({ kind: "parked", upTo: number, busy: [] }), 10);
    const startedMs = performance.now();
    const replies = [{ number, reply: await request(task.task) }];
    clearTimeout(waiting);
    const { path, binding } = task.task;
    const busy = path === "/busy" ? [JSON.parse(binding).tenant, performance.now() - startedMs] : [];
    tell({ kind: "replies", encoded: encodeReplies(replies), busy });
  }
}

function obey(message: ControlMessage): void {
  if (message.kind === "tasks") {
    for (const task of decodeTasks(message.encoded)) void take(task);
  } else if (message.kind === "ping") {
    if (throwsOnPing) throw new Error("in the dead of night");
    tell({
      kind: "pong",
      connections: { total: 0, idle: 0, waiting: 0, reserve: 0 },
      guardChecks: 0,
      renewals: { tenants: 0, age: 0, memory: 0 },
      readOnly: [],
    });
  } else if (message.kind === "collect") {
    tell({
      kind: "collected",
      sequence: message.sequence,
      heapUsedBytes: collectGarbage(),
      measured: unmeasured.splice(0),
    });
  }
}

/** Settings: `gate`, `die`, `fail`, `unfit` (a patch), `heapMb` (held), `saysMb` (reported), `usedMb` (in use; then `saysMb` is reported only with a collection). */
async function build(id: number, { settings }: BlueprintSpec): Promise<Reply<BuildReport>> {
  log(`building ${id}`);
  if (settings["gate"] !== undefined) await gate(String(settings["gate"]));
  if (settings["die"] === true) process.exit(3);
  if (settings["fail"] === "unshareable")
    return { ok: false, error: { code: "BUILD_NOT_SHAREABLE", message: "as told" } };
  if (settings["fail"] === true) return { ok: false, error: { code: "BUILD_FAILED", message: "as told" } };
  const heapMb = Number(settings["heapMb"] ?? 0);
  instances.set(id, Array.from({ length: heapMb }, megabyte));
  const saysMb = Number(settings["saysMb"] ?? Math.max(1, heapMb));
  const heapBytes = saysMb * 1024 * 1024;
  if (settings["usedMb"] === undefined) {
    return {
      ok: true,
      value: {
        buildMs: 1,
        heapBytes,
        usedBytes: 0,
        grownBytes: 0,
        types: 1,
        unhonoured: [],
        unfitPatches: settings["unfit"] === undefined ? [] : [String(settings["unfit"])],
        unknownPlugins: [],
      },
    };
  }
  unmeasured.push({ instance: id, heapBytes });
  const usedBytes = Number(settings["usedMb"]) * 1024 * 1024;
  const grownBytes = usedBytes;
  return {
    ok: true,
    value: {
      buildMs: 1,
      heapBytes: null,
      usedBytes,
      grownBytes,
      types: 1,
      unhonoured: [],
      unfitPatches: [],
      unknownPlugins: [],
    },
  };
}

/** Announces itself on the channel and waits until the gate opens, which lets everyone through. */
async function gate(name: string): Promise<void> {
  const channel = new BroadcastChannel(name);
  const open = Promise.withResolvers<void>();
  channel.onmessage = (event) => {
    const { data } = event as unknown as { data: unknown };
    if (data === "open") open.resolve();
  };
  channel.postMessage("here");
  await open.promise;
  channel.close();
}

async function request(task: RequestTask): Promise<Reply<Answer>> {
  if (!instances.has(task.instance)) {
    return { ok: false, error: { code: "CELL_LOST", message: "the instance is not in this cell" } };
  }
  const parameters = new URLSearchParams(task.query);
  running.add(task.slot);
  await act(task, parameters);
  running.delete(task.slot);
  const { cell } = setup;
  const { instance, slot } = task;
  const body = JSON.stringify({ cell, instance, slot, tenant: JSON.parse(task.binding).tenant });
  return { ok: true, value: { kind: "text", status: 200, headers: {}, body } };
}

async function act(task: RequestTask, parameters: URLSearchParams): Promise<void> {
  const amount = Number(parameters.get("n") ?? 0);
  const held = instances.get(task.instance);
  switch (task.path) {
    case "/echo":
      return;
    case "/sleep":
      await sleep(amount);
      return;
    case "/busy":
      for (const endMs = performance.now() + amount; performance.now() < endMs; ) Math.random();
      return;
    case "/gate":
      return gate(parameters.get("name") ?? "");
    case "/mark":
      ledger[task.slot] = 1;
      return gate(parameters.get("name") ?? "");
    case "/mark-and-die":
      ledger[task.slot] = 1;
      return process.exit(3);
    case "/die":
      return process.exit(3);
    case "/throw-on-ping":
      throwsOnPing = true;
      return;
    case "/spin":
      for (;;) Math.random();
    case "/native":
      execSync(`sleep ${amount / 1000}`);
      return;
    case "/hold":
      for (let count = 0; count < amount; count += 1) held?.push(megabyte());
      return;
    case "/leak":
      for (let count = 0; count < amount; count += 1) leaked.push(megabyte());
      return;
    case "/garbage":
      for (let count = 0; count < amount; count += 1) {
        megabyte();
        if (count % 10 === 0) await sleep(1);
      }
      return;
    default:
      return grow(task.path);
  }
}

/** Shapes of allocation that end a thread, or a process, in different ways. None of them ever stops. */
function grow(shape: string): never {
  switch (shape) {
    case "/grow-map": {
      const map = new Map<number, object>();
      for (let key = 0; ; key += 1) map.set(key, { key });
    }
    case "/grow-array": {
      const array: object[] = [];
      for (let key = 0; ; key += 1) array.push({ key, text: `number ${key}` });
    }
    case "/grow-buffers": {
      const buffers: Buffer[] = [];
      for (;;) buffers.push(Buffer.alloc(1024 * 1024, 1));
    }
    case "/grow-strings": {
      const strings: string[] = [];
      for (let key = 0; ; key += 1) strings.push(JSON.stringify("x".repeat(8 * 1024 * 1024)) + key);
    }
    case "/grow-string":
      return double("x".repeat(1024 * 1024));
    case "/grow-wide-string":
      return double("€".repeat(1024 * 1024));
    case "/fill": {
      const arrays: number[][] = [];
      for (;;) arrays.push(new Array<number>(32_000_000).fill(0));
    }
    default:
      throw new Error(`no such thing to do: ${shape}`);
  }
}

function double(short: string): never {
  for (const doubled: string[] = []; ; ) {
    // Above twice this length V8 throws instead.
    for (let text = short; text.length <= 2 ** 27; text += text) {
      // Reading a character makes V8 flatten the concatenated string.
      text.charCodeAt(text.length - 1);
      doubled.push(text);
    }
  }
}
