/** Fleets for the tests of one file; apart, since `fake-fleet.ts` serves processes without a test runner, too. */
import { afterEach } from "vitest";
import { FakeFleet, type FakeOptions } from "./fake-fleet.ts";

/** To be called once, at the top of a test file: what starts fleets, which end with their test. */
export function fakeFleets(defaults: FakeOptions = {}): (options?: FakeOptions) => FakeFleet {
  const fakes: FakeFleet[] = [];
  afterEach(async () => {
    await Promise.all(fakes.splice(0).map((fake) => fake.close()));
  });
  return (options) => {
    const fake = new FakeFleet({ ...defaults, ...options });
    fakes.push(fake);
    return fake;
  };
}
