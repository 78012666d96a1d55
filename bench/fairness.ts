/** What one client's attack costs another tenant: a victim sends requests at a steady rate, alone and beside each of the attacks. */
import { once } from "node:events";
import { createServer } from "node:net";
import { attacks } from "./attacks/list.ts";
import { type Bench, type BenchOptions, inTurn } from "./bench.ts";
import { type ArmOptions, measureArm } from "./fairness-arm.ts";
import { fairnessDatabase } from "./fairness-tenants.ts";
import { type Figures, type Found, figureOf, measuredOf, Rounds } from "./report.ts";

const quiet = "quiet";
/** Attackers connect from 127.0.0.1. */
const victimAddress = "127.0.0.2";

/** Counts of outcomes by arm, for the notes: tables hold numbers only. */
class Endings {
  readonly #counts = new Map<string, Map<string, number>>();

  add(whose: string, counts: Readonly<Record<string, number>>): void {
    const known = this.#counts.get(whose) ?? new Map<string, number>();
    for (const [ending, count] of Object.entries(counts)) known.set(ending, (known.get(ending) ?? 0) + count);
    if (known.size > 0) this.#counts.set(whose, known);
  }

  /** One line for each arm, the most frequent outcomes first. */
  get notes(): string[] {
    return [...this.#counts].map(([whose, counts]) => {
      const most = [...counts].toSorted(([, a], [, b]) => b - a).slice(0, 4);
      return `${whose}: ${most.map(([ending, count]) => `${ending} × ${count}`).join(", ")}`;
    });
  }
}

/** Whether this machine has `address`: Linux has all of 127.0.0.0/8, other systems only 127.0.0.1. */
async function isOwnAddress(address: string): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(0, address);
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}

/** The attacks to run, by default all of them; throws for an unknown name. */
function chosen(only: BenchOptions["only"]): string[] {
  const names = Object.keys(attacks);
  const unknown = (only ?? []).filter((name) => name !== quiet && !names.includes(name));
  if (unknown.length > 0)
    throw new Error(`no attack is called ${unknown.join(", ")}; there are ${names.join(", ")}`);
  return only === undefined ? names : names.filter((name) => only.includes(name));
}

/** Figures that are summed over the rounds: a median would hide a single failure. */
const counted = ["failures", "sent", "host died", "attacks", "attacks answered", "attacks refused"];

function summary(rounds: Rounds): Record<string, Figures> {
  return Object.fromEntries(
    Object.entries(rounds.medians).map(([arm, medians]) => {
      const sums = counted
        .filter((figure) => figure in medians)
        .map((figure) => [
          figure,
          (rounds.all[arm] ?? []).reduce((sum, each) => sum + (each[figure] ?? 0), 0),
        ]);
      return [arm, { ...medians, ...Object.fromEntries(sums) }];
    }),
  );
}

function ratiosOf(found: Pick<Found, "arms">, names: readonly string[]): Figures {
  const p99 = (arm: string): number => figureOf(found, arm, "p99 ms");
  const times = names.map((name) => p99(name) / p99(quiet));
  const delays = names.map((name) => p99(name) - p99(quiet));
  const failures = names.reduce((sum, name) => sum + figureOf(found, name, "failures"), 0);
  // The goals cover all attacks, so a run of some of them cannot be judged by them.
  const all = Object.keys(attacks).every((name) => names.includes(name));
  return measuredOf({
    ...Object.fromEntries(
      names.map((name, index) => [`${name}: p99 over quiet`, times[index] ?? Number.NaN]),
    ),
    ...Object.fromEntries(names.map((name, index) => [`${name}: delay ms`, delays[index] ?? Number.NaN])),
    ...(all
      ? {
          "worst attack: p99 over quiet": Math.max(...times),
          "worst attack: delay ms": Math.max(...delays),
          "failures beside all attacks": failures,
        }
      : {}),
  });
}

const bench: Bench = {
  async run({ quick, only, host }) {
    const names = chosen(only);
    const rounds = new Rounds();
    const endings = new Endings();
    const tenants = await fairnessDatabase(host);
    const options: ArmOptions = {
      tenants,
      host,
      victimAddress: (await isOwnAddress(victimAddress)) ? victimAddress : "127.0.0.1",
      durationMs: quick ? 3_000 : 11_000,
      onsetMs: quick ? 1_500 : 5_000,
      graceMs: quick ? 1_000 : 3_000,
    };
    try {
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        // Measured before and after the attacks, to reveal a machine that has become slower meanwhile.
        for (const arm of inTurn([quiet, ...names, quiet], round)) {
          const { figures, failures, outcomes } = await measureArm(arm, options);
          rounds.add(arm, figures);
          endings.add(`${arm}, the victim's failures`, failures);
          endings.add(arm, outcomes);
        }
      }
    } finally {
      await tenants.close();
    }
    const found = { arms: summary(rounds) };
    return {
      ...found,
      rounds: rounds.all,
      ratios: ratiosOf(found, names),
      notes: [
        `20 requests a second of a tenant, every fifth a mutation, for ${options.durationMs / 1_000} s beside each attack, of which the first ${options.onsetMs / 1_000} are told apart as its onset; a fresh host each time, pooled, with its defaults`,
        "times count from the moment when a request was due; what had no answer when the arm was over counts as failed, after the time that it had",
        ...endings.notes,
      ],
    };
  },
  charts: (found) => {
    const arms = Object.keys(found.arms);
    return [
      {
        kind: "bars",
        title: "What an attack costs another tenant",
        unit: "ms, logarithmic, less is better",
        subtitle: "20 requests a second of a tenant of the same blueprint",
        groups: arms,
        series: ["p50 ms", "p99 ms"].map((name) => ({
          name,
          values: arms.map((arm) => figureOf(found, arm, name)),
        })),
        logarithmic: true,
      },
    ];
  },
};

export default bench;
