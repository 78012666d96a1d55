import { expect, test } from "vitest";
import { Registry } from "../../src/fleet/registry.ts";
import { Spares } from "../../src/fleet/spares.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { Condition } from "../../src/shared/kernel/condition.ts";
import { setup } from "../thread/fake-fleet.ts";

test("a thread that cannot be created counts as a failed start: it is reported, followed by a pause, and ends nothing", () => {
  const seen: Observation[] = [];
  const registry = new Registry();
  const supply = new Spares(
    {
      plan: {
        cells: 2,
        boundBy: "memory",
        instances: 10,
        spare: 1,
        heapMb: 64,
        hardLimitMb: 128,
        v8LimitMb: 1_152,
        growingPercent: 30,
        frontMb: 100,
        cellMb: 100,
        planMb: 300,
      },
      setup,
      youngMb: 16,
      observe: (observation) => seen.push(observation),
      // Refused before there is a thread, as Node does where the system has no more of them.
      entry: new URL("https://nowhere.example/cell.ts"),
      onGone: () => undefined,
    },
    registry,
    new Condition(),
  );
  supply.start();
  expect(seen).toMatchObject([{ kind: "cell.error" }]);
  expect(registry.cellCount).toBe(0);
  expect(supply.pauseMs(performance.now())).toBeGreaterThan(0);
  supply.refill(1);
  expect(seen).toHaveLength(1);
  supply.start();
  expect(supply.healthy).toBe(false);
});
