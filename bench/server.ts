/** A server arm: its process, what it answers, and what it costs. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { z } from "zod";
import { startArm } from "./bench.ts";
import type { BenchDatabase, BenchTenant } from "./database.ts";

const ready = z.object({ url: z.string(), adminUrl: z.string().default("") });

export interface ServerArm {
  readonly url: string;
  /** Empty where the arm has none. */
  readonly adminUrl: string;
  readonly child: ChildProcess;
  ask(tenant: string, query: string): Promise<string>;
  stop(): Promise<void>;
}

/** Starts `stock`, `dedicated` or `pooled` for the tenants. */
export async function startServer(
  arm: string,
  database: BenchDatabase,
  tenants: readonly BenchTenant[],
  execArgv: readonly string[] = [],
  guard: "off" | "writes" | "all" = "off",
): Promise<ServerArm> {
  const child = startArm(arm === "stock" ? "stock" : "rowhouse", execArgv);
  child.send({ input: { arm, url: database.url, tenants, query: "", guard } });
  const [message]: unknown[] = await once(child, "message");
  const { url, adminUrl } = ready.parse(message);
  return {
    url,
    adminUrl,
    child,
    async ask(tenant, query) {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json", "x-tenant": tenant },
        body: JSON.stringify({ query }),
      });
      return response.text();
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Resident memory of a process in MB; NaN where it is gone. */
export async function rssMb(pid: number | undefined): Promise<number> {
  try {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  } catch {
    return Number.NaN;
  }
}

const ticksPerSecond = 100;

/** CPU seconds that a process has used, user and system. */
export async function cpuSeconds(pid: number | undefined): Promise<number> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
  } catch {
    return 0;
  }
}

/** CPU seconds of every PostgreSQL process; those that have ended are in their parent's count no more. */
export async function postgresCpuSeconds(): Promise<number> {
  let sum = 0;
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    if (name.startsWith("postgres")) sum += await cpuSeconds(Number(pid));
  }
  return sum;
}
