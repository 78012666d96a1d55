/** Memory and CPU time of processes, from Linux's /proc. */
import { readdir, readFile } from "node:fs/promises";

const ticksPerSecond = 100;

/** Current and peak resident memory of a process in MB; NaN if it has ended. */
export async function memoryOf(
  pid: number | undefined,
): Promise<{ readonly rssMb: number; readonly peakMb: number }> {
  try {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    const mbOf = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024;
    return { rssMb: mbOf("VmRSS"), peakMb: mbOf("VmHWM") };
  } catch {
    return { rssMb: Number.NaN, peakMb: Number.NaN };
  }
}

/** Memory in MB that belongs to no other process: PostgreSQL's shared buffers would count for each backend. 0 if the process has ended. */
export async function privateMb(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  const sizes = text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+)/gm);
  return [...sizes].reduce((sum, [, kb]) => sum + Number(kb), 0) / 1024;
}

interface Stat {
  readonly parent: number;
  readonly seconds: number;
  /** CPU seconds of its children that have ended. */
  readonly endedSeconds: number;
}

async function statOf(pid: number | string | undefined): Promise<Stat | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The name is in parentheses and may contain anything, so fields are counted after it.
    const fields = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const [, parent = 0] = fields;
    const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15);
    return {
      parent,
      seconds: (user + system) / ticksPerSecond,
      endedSeconds: (childUser + childSystem) / ticksPerSecond,
    };
  } catch {
    return undefined;
  }
}

/** CPU seconds that all threads of a process have used, user and system. */
export async function cpuSeconds(pid: number | undefined): Promise<number> {
  return (await statOf(pid))?.seconds ?? 0;
}

/** CPU seconds of a process's main thread, and of all its threads. */
export async function threadCpuSeconds(
  pid: number | undefined,
): Promise<{ readonly main: number; readonly all: number }> {
  const main = (await statOf(`${pid}/task/${pid}`))?.seconds ?? 0;
  return { main, all: await cpuSeconds(pid) };
}

/** CPU seconds of a process and all its children, ended ones included. */
export async function familyCpuSeconds(pid: number): Promise<number> {
  const parent = await statOf(pid);
  let sum = (parent?.seconds ?? 0) + (parent?.endedSeconds ?? 0);
  for (const name of (await readdir("/proc")).filter((each) => /^\d+$/.test(each))) {
    const stat = await statOf(name);
    if (stat?.parent === pid) sum += stat.seconds;
  }
  return sum;
}
