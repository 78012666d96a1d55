import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Parking } from "../../workers/parking.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function open(): { parking: Parking; told: number[] } {
  const told: number[] = [];
  const parking = new Parking((upTo) => told.push(upTo));
  parking.contended = true;
  return { parking, told };
}

it("long-running requests are reported once, quickly answered ones never", () => {
  const { parking, told } = open();
  for (const number of [1, 2, 3]) parking.started(number);
  parking.ended(3);
  vi.advanceTimersByTime(50);
  // The second came behind the first, so it is told of with the next look.
  expect(told).toEqual([1, 3]);
  parking.started(4);
  parking.ended(4);
  vi.advanceTimersByTime(50);
  expect(told).toEqual([1, 3]);
});

it("a request that came a moment ago is never reported", () => {
  const { parking, told } = open();
  parking.started(1);
  vi.advanceTimersByTime(9);
  parking.started(2);
  vi.advanceTimersByTime(1);
  expect(told).toEqual([1]);
  vi.advanceTimersByTime(10);
  expect(told).toEqual([1, 2]);
});

it("everything that has begun is reported once it has run as far as it could", () => {
  const { parking, told } = open();
  for (const number of [1, 2]) parking.started(number);
  parking.parkAll();
  expect(told).toEqual([2]);
  parking.parkAll();
  vi.advanceTimersByTime(50);
  expect(told).toEqual([2]);
});

it("nothing is reported while no request waits in the front, and long-running ones at once when one does", () => {
  const { parking, told } = open();
  parking.contended = false;
  for (const number of [1, 2, 3]) parking.started(number);
  parking.ended(2);
  vi.advanceTimersByTime(9);
  parking.started(4);
  vi.advanceTimersByTime(1);
  parking.parkAll();
  expect(told).toEqual([]);
  parking.contended = true;
  expect(told).toEqual([3]);
  vi.advanceTimersByTime(10);
  expect(told).toEqual([3, 4]);
});

it("reports stop when no request waits any more", () => {
  const { parking, told } = open();
  parking.started(1);
  parking.contended = false;
  vi.advanceTimersByTime(50);
  expect(told).toEqual([]);
});
