/**
 * A process of its own with a fleet under load, in which one cell's heap grows without end, a number of times in a row:
 * `node overload-run.ts /grow-map 3`, followed by the cells' budget in MB and, optionally, V8's limit if not the plan's. Prints
 * the outcome as JSON; that the process survives to do so is half of the result.
 */
import { setFlagsFromString } from "node:v8";
import { fillShare, moduleHeapMb } from "../../src/fleet/policy/capacity.ts";
import { FakeFleet } from "./fake-fleet.ts";

export interface Overload {
  /** Why cells ended. */
  readonly reasons: readonly string[];
  /** Requests of other cells: answered, and failed with a code. */
  readonly answered: number;
  readonly failed: readonly string[];
  /** The outcomes of the requests that did it. */
  readonly greedy: readonly string[];
  readonly mostCells: number;
  /** Resources that would keep the process alive once the fleet is closed. */
  readonly left: readonly string[];
}

async function run(shape: string, times: number, heapMb: number, limitMb?: number): Promise<Overload> {
  // Only one instance of this size fits in a cell.
  const instanceHeapMb = Math.floor((heapMb * fillShare - moduleHeapMb) * 0.8);
  const saysMb = String(instanceHeapMb);
  const fake = new FakeFleet({
    cells: 3,
    heapMb,
    instanceHeapMb,
    ...(limitMb === undefined ? {} : { v8LimitMb: limitMb }),
  });
  setFlagsFromString(`--heap-growing-percent=${fake.plan.growingPercent}`);
  for (const name of ["one", "two"]) fake.blueprints.set(name, { settings: { saysMb } });
  const state = { answered: 0, going: true };
  const failed: string[] = [];
  const load = ["one", "two"].map(async (name) => {
    while (state.going) {
      await fake.ask(name).then(
        () => {
          state.answered += 1;
        },
        (error: { code?: string }) => failed.push(error.code ?? String(error)),
      );
    }
  });
  await Promise.all([fake.until("build.done"), fake.once(() => fake.all("build.done")[1])]);
  const greedy: string[] = [];
  for (let count = 0; count < times; count += 1) {
    // Another key each time, since a key that ended threads is held back.
    fake.blueprints.set(`greedy${count}`, { settings: { saysMb } });
    const outcome = await fake.ask(`greedy${count}`, shape, "n=1000").then(
      () => "answered",
      (error: { code?: string }) => error.code ?? String(error),
    );
    greedy.push(outcome);
    await fake.ask(`greedy${count}`).catch(() => undefined);
  }
  state.going = false;
  await Promise.all(load);
  const reasons = fake.all("cell.terminated").map(({ reason }) => reason);
  await fake.close();
  const left = process.getActiveResourcesInfo().filter((kind) => /Timeout|Worker|MessagePort/.test(kind));
  return { reasons, answered: state.answered, failed, greedy, mostCells: fake.mostCells, left };
}

const [shape = "", ...figures] = process.argv.slice(2);
const [times = 1, heapMb = 96, limitMb] = figures.map(Number);
process.stdout.write(JSON.stringify(await run(shape, times, heapMb, limitMb)));
