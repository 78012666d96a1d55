/** Defines a bench and runs its arms: each in a fresh process, in alternating order. */
import { type ChildProcess, fork } from "node:child_process";
import { on, once } from "node:events";
import type { Chart } from "./charts.ts";
import type { Found } from "./report.ts";

export interface BenchOptions {
  readonly quick: boolean;
  readonly tenants: number | undefined;
  readonly tables: number | undefined;
  /** The arms to run, for benches that can leave some out. */
  readonly only: readonly string[] | undefined;
  /** Another checkout of the project whose host is measured, for benches that can. */
  readonly host: string | undefined;
  /** How the host's database is set up, for benches that can vary it. */
  readonly setup: string | undefined;
}

export interface Bench {
  run(options: BenchOptions): Promise<Found>;
  /** Derived from the findings alone, so that charts can be redrawn from their JSON. */
  charts(found: Found): readonly Chart[];
}

const running = new Set<ChildProcess>();

/** Ends every arm that is still running; for the end of a bench that failed. */
export function endArms(): void {
  for (const child of running) child.kill("SIGKILL");
}

/** Registers `child`, so that it ends with the bench at the latest. */
export function ownChild(child: ChildProcess): ChildProcess {
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

/** The arms in the order of a round; every second round is reversed. */
export function inTurn<Arm>(arms: readonly Arm[], round: number): readonly Arm[] {
  return round % 2 === 0 ? arms : arms.toReversed();
}

/** Runs an arm's process to its end and returns its first message; throws if it ends without one. */
export async function runArm<Answer>(
  name: string,
  input: unknown,
  parse: (message: unknown) => Answer,
  execArgv: readonly string[] = [],
): Promise<Answer> {
  const child = startArm(name, execArgv);
  child.send({ input });
  const answer = Promise.race([
    once(child, "message").then(([message]) => ({ message })),
    once(child, "exit").then(([code, signal]) => ({ ended: `${code ?? signal}` })),
  ]);
  const result = await answer;
  if (!("message" in result)) throw new Error(`arm ${name} ended with ${result.ended} before it answered`);
  if (child.exitCode === null) {
    child.disconnect();
    await once(child, "exit");
  }
  return parse(result.message);
}

export function startArm(name: string, execArgv: readonly string[] = []): ChildProcess {
  return ownChild(
    fork(new URL(`./arms/${name}.ts`, import.meta.url), {
      execArgv: ["--expose-gc", ...execArgv],
      // Stock reports each failed request, and V8 its out-of-memory crash.
      stdio: ["ignore", "ignore", name === "stock" ? "ignore" : "inherit", "ipc"],
      env: { ...process.env, NODE_ENV: "production", GRAPHILE_ENV: "production" },
    }),
  );
}

/** The messages of `child` from now on; `next` rejects if the process ends instead. */
export function messagesOf(child: ChildProcess, name: string): { next(): Promise<unknown> } {
  const messages = on(child, "message", { close: ["exit"] });
  return {
    async next() {
      const step = await messages.next();
      if (step.done === true) throw new Error(`${name} ended before it had said everything`);
      const [message]: unknown[] = step.value;
      return message;
    },
  };
}
