import { describe, expect, it } from "vitest";
import { Connections, type Place, type State } from "../../src/http/connections.ts";

/** A connection of which the test says what it does. */
class Fake {
  state: State = "receiving";
  requests = 0;
  bytesRead = 0;
  place: Place<Fake> | null = null;
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** Plays `steps`: `a1 in`, `a1 head`, `a1 body 20`, `a1 whole`, `a1 idle`, `a1 out`; the letter is the address, `p` a proxy's. Says what came of each arrival. */
function play(options: { most: number; mostOfAddress: number }, steps: string): string[] {
  const connections = new Connections<Fake>(options);
  const all = new Map<string, Fake>();
  const outcomes: string[] = [];
  for (const step of steps.split(",").map((text) => text.trim())) {
    const [name = "", event, kilobytes] = step.split(" ");
    const fake = all.get(name) ?? new Fake(name);
    all.set(name, fake);
    const { place } = fake;
    if (event === "in") {
      const address = name.slice(0, 1);
      const admission = connections.admit(fake, address, address === "p");
      if (admission.kind === "refused") outcomes.push(`${name} refused: ${admission.shortage}`);
      else {
        fake.place = admission.place;
        const { gone } = admission;
        if (gone !== null) outcomes.push(`${gone.connection.name} goes for ${name}: ${gone.shortage}`);
      }
      continue;
    }
    if (place === null) throw new Error(`${step}: it is not there`);
    switch (event) {
      case "head":
        fake.state = "receiving";
        fake.requests += 1;
        fake.bytesRead += 100;
        break;
      case "body":
        fake.bytesRead += Number(kilobytes) * 1024;
        break;
      case "whole":
        fake.state = "working";
        connections.received(place);
        break;
      // Nobody says so: it is found out when it is looked at.
      case "unsaid":
        fake.state = "working";
        break;
      case "idle":
        fake.state = "idle";
        connections.answered(place);
        break;
      case "out":
        connections.leave(place);
        break;
      default:
        throw new Error(`${step}: no such event`);
    }
  }
  return outcomes;
}

/** What a connection does to be at work, and then idle. */
const work = (name: string): string => `${name} in, ${name} head, ${name} whole`;
const rest = (name: string): string => `${work(name)}, ${name} idle`;

describe("an address with its maximum of connections", () => {
  const options = { most: 100, mostOfAddress: 3 };
  it.each<[string, string, string[]]>([
    ["takes nothing from another", "a1 in, a2 in, a3 in, b1 in, b2 in", []],
    ["loses the first that sent nothing", "a1 in, a2 in, a3 in, a4 in", ["a1 goes for a4: address"]],
    [
      "loses an idle one before one that sends",
      `a1 in, ${rest("a2")}, a3 in, a4 in`,
      ["a2 goes for a4: address"],
    ],
    [
      "loses the longest idle one",
      `${rest("a1")}, ${rest("a2")}, a3 in, a1 head, a1 whole, a1 idle, a4 in`,
      ["a2 goes for a4: address"],
    ],
    ["never loses one at work", `${work("a1")}, ${work("a2")}, a3 in, a4 in`, ["a3 goes for a4: address"]],
    [
      "is refused another where all are at work, and others are not",
      `${work("a1")}, ${work("a2")}, ${work("a3")}, a4 in, b1 in`,
      ["a4 refused: address"],
    ],
    [
      "is refused another where all are at work, though nobody said so",
      "a1 in, a1 unsaid, a2 in, a2 unsaid, a3 in, a3 unsaid, a4 in",
      ["a4 refused: address"],
    ],
    [
      "has one to lose again when it is answered",
      `${work("a1")}, ${work("a2")}, ${work("a3")}, a4 in, a2 idle, a5 in`,
      ["a4 refused: address", "a2 goes for a5: address"],
    ],
    [
      "has one to lose again when it is answered, though nobody said that it was at work",
      "a1 in, a1 unsaid, a2 in, a2 unsaid, a3 in, a3 unsaid, a4 in, a2 idle, a5 in",
      ["a4 refused: address", "a2 goes for a5: address"],
    ],
    [
      "loses no kept connection that is at work again",
      `${rest("a1")}, a1 head, a1 whole, ${rest("a2")}, a3 in, a4 in, a5 in`,
      ["a2 goes for a4: address", "a3 goes for a5: address"],
    ],
    [
      "loses a kept connection that sends half a request before newer ones",
      `${rest("a1")}, ${work("a2")}, a1 head, a3 in, a3 head, a4 in`,
      ["a3 goes for a4: address"],
    ],
    [
      "loses the one that stands still before the one that gets on",
      "a1 in, a1 head, a2 in, a2 head, a3 in, a3 head, a1 body 20, a3 body 20, a4 in",
      ["a2 goes for a4: address"],
    ],
    [
      "does not take a byte now and then for getting on",
      "a1 in, a1 head, a2 in, a3 in, a1 body 10, a4 in",
      ["a1 goes for a4: address"],
    ],
    [
      "has room again when one has left",
      "a1 in, a2 in, a3 in, a2 out, a4 in, a5 in",
      ["a1 goes for a5: address"],
    ],
    [
      "does not count one that has gone twice",
      "a1 in, a2 in, a3 in, a4 in, a1 out, a1 out, a5 in",
      ["a1 goes for a4: address", "a2 goes for a5: address"],
    ],
    ["holds back no proxy", "p1 in, p2 in, p3 in, p4 in, p5 in", []],
  ])("%s", (_, steps, expected) => {
    expect(play(options, steps)).toEqual(expected);
  });
});

describe("a full listener", () => {
  const options = { most: 4, mostOfAddress: 3 };
  it.each<[string, string, string[]]>([
    [
      "takes from the address that holds most",
      `${rest("b1")}, a1 in, a2 in, a3 in, c1 in`,
      ["a1 goes for c1: full"],
    ],
    [
      "takes an idle one from it first",
      `b1 in, a1 in, ${rest("a2")}, a3 in, c1 in`,
      ["a2 goes for c1: full"],
    ],
    [
      "does not count those at work",
      `${work("a1")}, ${work("a2")}, a3 in, b1 in, c1 in`,
      ["a3 goes for c1: full"],
    ],
    [
      "takes from another where those of the first turn out to be at work",
      "a1 in, a1 unsaid, a2 in, a2 unsaid, a3 in, a3 unsaid, b1 in, c1 in",
      ["b1 goes for c1: full"],
    ],
    [
      "goes on to the next where all hold as much, those first that did nothing for longest",
      "a1 in, b1 in, c1 in, d1 in, e1 in, f1 in",
      ["a1 goes for e1: full", "b1 goes for f1: full"],
    ],
    [
      "passes over who has got on meanwhile",
      `${rest("a1")}, b1 in, c1 in, d1 in, a1 head, a1 whole, a1 idle, e1 in`,
      ["b1 goes for e1: full"],
    ],
    [
      "refuses where all are at work",
      `${work("a1")}, ${work("b1")}, ${work("c1")}, ${work("d1")}, e1 in`,
      ["e1 refused: full"],
    ],
    [
      "takes from a proxy last, however many it holds",
      "p1 in, p2 in, p3 in, a1 in, b1 in",
      ["a1 goes for b1: full"],
    ],
    [
      "takes from a proxy where there is nobody else",
      `p1 in, ${rest("p2")}, p3 in, p4 in, b1 in`,
      ["p2 goes for b1: full"],
    ],
    [
      "is not full any more when one has left",
      "a1 in, a2 in, a3 in, b1 in, a1 out, c1 in, d1 in",
      ["a2 goes for d1: full"],
    ],
  ])("%s", (_, steps, expected) => {
    expect(play(options, steps)).toEqual(expected);
  });

  it("checks each connection from time to time, however many newcomers there are", () => {
    let looks = 0;
    const looked = {
      requests: 0,
      bytesRead: 0,
      get state(): State {
        looks += 1;
        return "receiving";
      },
    };
    const [most, newcomers] = [1_000, 10_000];
    const connections = new Connections<typeof looked>({ most, mostOfAddress: 100 });
    for (let nth = 0; nth < most + newcomers; nth += 1) connections.admit(looked, `a${nth % 50}`);
    expect(looks).toBeLessThan(3 * newcomers);
  });
});
