import { expect, it } from "vitest";
import { liveSeconds } from "../../workers/request/live.ts";

const secondsOf = (query: string, variables?: object): number | null =>
  liveSeconds(JSON.stringify({ query, variables }));

it.each<[query: string, seconds: number | null, variables?: object]>([
  ["query { a }", null],
  ["query @live { a }", 0],
  ["query @live(refresh: 5) { a }", 5],
  ["query @live(refresh: -5) { a }", 1],
  ["query @live(refresh: 2147483) { a }", 2_147_483],
  ["query @live(refresh: 2147484) { a }", 2_147_483],
  ["query @live(refresh: 2147483647) { a }", 2_147_483],
  ["query ($r: Int) @live(refresh: $r) { a }", 2_147_483, { r: 2_147_483_647 }],
  ["query ($r: Int) @live(refresh: $r) { a }", 7, { r: 7 }],
  ["query ($r: Int) @live(refresh: $r) { a }", 0],
])("%s runs again after %s seconds, which a timer can wait for", (query, seconds, variables) => {
  expect(secondsOf(query, variables)).toBe(seconds);
});
