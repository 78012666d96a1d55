/** Fleets for the tests of one file; a separate file, since `fake-fleet.ts` also runs without a test runner. */
import { afterEach } from "vitest";
import { FakeFleet, type FakeOptions } from "./fake-fleet.ts";

/** To be called once, at the top of a test file; returns a function that starts fleets, which end with their test. */
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
