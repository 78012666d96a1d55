/** `rowhouse` in a process of its own: its output, its log and its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
// Imported first so that its hook runs last: if a hook fails, Vitest skips those registered before it.
import "./sentinel.ts";

const cli = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** One line of the JSON log; the figures are those of the observation. */
export interface LogLine {
  readonly kind: string;
  readonly [figure: string]: unknown;
}

export interface ProcessOptions {
  readonly args: readonly string[];
  readonly cwd: string;
  /** The command line to run, instead of the checkout's own. */
  readonly cli?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const running = new Set<CliProcess>();
// Registered before a file's own hooks, and so the last to run: a failing test leaves no host behind.
afterAll(async () => {
  const ends = [...running].map((each) => {
    each.kill();
    return each.ended;
  });
  await Promise.all(ends);
});

/** Variables of this process's environment that would configure the host. */
const foreign = /^(DATABASE_URL|PORT|ROWHOUSE_|GRAPHILE_|NODE_OPTIONS|NODE_ENV|VITEST|PG)/;

function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const inherited = Object.entries(process.env).filter(([name]) => !foreign.test(name));
  return { ...Object.fromEntries(inherited.map(([name, value]) => [name, value ?? ""])), ...extra };
}

export class CliProcess {
  readonly child: ChildProcess;
  /** Every log line so far, in order. */
  readonly lines: LogLine[] = [];
  stdout = "";
  stderr = "";
  readonly ended: Promise<Ended>;
  readonly #events = new EventEmitter().setMaxListeners(0);
  #rest = "";
  #end: Ended | null = null;

  constructor({ args, cwd, env, cli: program = cli }: ProcessOptions) {
    // In a process group of its own, so that everything it starts can be found and ended with it.
    this.child = spawn(process.execPath, [program, ...args], {
      cwd,
      env: environment(env),
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(this);
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#hear(text));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.ended = once(this.child, "close").then(([code, signal]) => {
      this.#end = { code, signal };
      running.delete(this);
      this.#events.emit("change");
      return this.#end;
    });
  }

  get pid(): number {
    const { pid } = this.child;
    if (pid === undefined) throw new Error("the process was not started");
    return pid;
  }

  get output(): string {
    return this.stdout + this.stderr;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Kills the process and everything that it started. */
  kill(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }

  /** Whether any process of its group is alive; there must be none after its end. */
  get groupAlive(): boolean {
    try {
      return process.kill(-this.pid, 0);
    } catch {
      return false;
    }
  }

  linesOf(kind: string): LogLine[] {
    return this.lines.filter((line) => line.kind === kind);
  }

  /** The first log line of that kind with these figures, past or future; throws after `timeoutMs`. */
  async line(kind: string, figures: Record<string, unknown> = {}, timeoutMs = 30_000): Promise<LogLine> {
    const fits = (line: LogLine): boolean =>
      line.kind === kind && Object.entries(figures).every(([name, value]) => line[name] === value);
    const found = await this.until(() => this.lines.find(fits), timeoutMs);
    if (found !== undefined) return found;
    throw new Error(`no ${kind} line with ${JSON.stringify(figures)}\n${this.output.slice(-6_000)}`);
  }

  /** The first result of `look` that is not undefined; undefined after the timeout, or when the process ends. */
  async until<Value>(look: () => Value | undefined, timeoutMs: number): Promise<Value | undefined> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const value = look();
      const leftMs = deadlineMs - performance.now();
      if (value !== undefined || leftMs <= 0 || this.#end !== null) return value;
      const late = AbortSignal.timeout(Math.ceil(leftMs));
      await once(this.#events, "change", { signal: late }).catch(() => undefined);
    }
  }

  /** Resident memory of the process in MB. */
  get rssMb(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
  }

  #hear(text: string): void {
    this.stdout += text;
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith('{"level"')) continue;
      const record = JSON.parse(line);
      if (typeof record.kind === "string") this.lines.push(record);
    }
    this.#events.emit("change");
  }
}

/** Runs a command to its end. */
export async function runCli(
  options: ProcessOptions,
): Promise<Ended & { readonly stdout: string; readonly stderr: string }> {
  const child = new CliProcess(options);
  const timer = setTimeout(() => child.kill(), 45_000);
  const ended = await child.ended;
  clearTimeout(timer);
  return { ...ended, stdout: child.stdout, stderr: child.stderr };
}
