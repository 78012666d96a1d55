/** One arm of `fairness`: a fresh host and the victim, alone or with an attacker. */
import type { ChildProcess } from "node:child_process";
import { z } from "zod";
import type { Target } from "./attacks/attack.ts";
import { attacks } from "./attacks/list.ts";
import { messagesOf, startArm } from "./bench.ts";
import { type FairnessDatabase, tokenFor } from "./fairness-tenants.ts";
import type { Figures } from "./report.ts";
import { type ServerArm, startRowhouse } from "./server.ts";

/** The victim's load. */
const asking = {
  query: "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  mutation:
    'mutation { updateT1ItemByRowId(input: { rowId: 4, t1ItemPatch: { note: "noted" } }) { t1Item { name } } }',
  mutationEvery: 5,
  everyMs: 50,
  /** Sent before anything is measured: compiling and planning the first requests is not the attack's doing. */
  warmRequests: 240,
};
const memoryMb = 1_536;
/** Victim and attacker end by themselves; one that does not is killed after this time. */
const overtimeMs = 20_000;

export interface ArmOptions {
  readonly tenants: FairnessDatabase;
  readonly host: string | undefined;
  readonly victimAddress: string;
  readonly durationMs: number;
  /** The first part of the duration, which has figures of its own. */
  readonly onsetMs: number;
  /** A request that is unanswered this long after the victim's last one was sent has failed. */
  readonly graceMs: number;
}

export interface ArmFound {
  readonly figures: Figures;
  /** How the victim's failed requests ended, and the attack's. */
  readonly failures: Readonly<Record<string, number>>;
  readonly outcomes: Readonly<Record<string, number>>;
}

const victimShape = z.object({
  p50Ms: z.number(),
  p99Ms: z.number(),
  maxMs: z.number(),
  onsetP50Ms: z.number(),
  onsetMaxMs: z.number(),
  lateMs: z.number(),
  sent: z.number(),
  failed: z.number(),
  failures: z.record(z.string(), z.number()),
});
const attackShape = z.object({
  sent: z.number(),
  answered: z.number(),
  refused: z.number(),
  outcomes: z.record(z.string(), z.number()),
});

/** Measures the victim beside the attack called `name`, or alone if there is none. Leaves no process and no backend behind. */
export async function measureArm(name: string, options: ArmOptions): Promise<ArmFound> {
  // Started first, so that they load their modules while the host starts.
  const victim = new Participant("victim");
  const attacker = name in attacks ? new Participant("attacker") : undefined;
  let server: ServerArm | undefined;
  try {
    server = await startHost(name, options);
    return await measure(name, server, { victim, attacker }, options);
  } finally {
    victim.end();
    attacker?.end();
    await server?.stop();
    await options.tenants.clear();
  }
}

function startHost(name: string, { tenants, host }: ArmOptions): Promise<ServerArm> {
  const fromTable = attacks[name]?.tenants === "table";
  return startRowhouse({
    database: tenants.database,
    tenants: [tenants.victim, ...tenants.attackers, ...tenants.others],
    config: {
      pooling: true,
      cells: { memoryMb },
      ...(fromTable ? { tenants: { table: { database: "main" } } } : {}),
    },
    host,
  });
}

interface Participants {
  readonly victim: Participant;
  readonly attacker: Participant | undefined;
}

async function measure(
  name: string,
  server: ServerArm,
  { victim, attacker }: Participants,
  { tenants, durationMs, onsetMs, graceMs, victimAddress: localAddress }: ArmOptions,
): Promise<ArmFound> {
  const { url } = server;
  const { id: tenant } = tenants.victim;
  const target: Target = {
    url,
    victim: tenant,
    attackers: tenants.attackers.map(({ id }) => id),
    secret: tenants.attackers[0]?.jwt.secret ?? "",
    others: tenants.others.map(({ id }) => id),
    durationMs,
  };
  const token = await tokenFor(tenants.victim);
  await victim.prepare({ ...asking, url, tenant, token, localAddress, durationMs, onsetMs, graceMs });
  await attacker?.prepare({ attack: name, target });
  if (attacks[name]?.unread === true) server.child.stdout?.pause();
  attacker?.begin();
  victim.begin();
  const felt = victimShape.parse(await victim.answer(durationMs));
  const died = server.alive ? 0 : 1;
  const done = attacker === undefined ? undefined : attackShape.parse(await attacker.answer(durationMs));
  return {
    figures: {
      "p50 ms": felt.p50Ms,
      "p99 ms": felt.p99Ms,
      "max ms": felt.maxMs,
      "onset p50 ms": felt.onsetP50Ms,
      "onset max ms": felt.onsetMaxMs,
      failures: felt.failed,
      sent: felt.sent,
      "sent late ms": felt.lateMs,
      "host died": died,
      ...(done === undefined
        ? {}
        : { attacks: done.sent, "attacks answered": done.answered, "attacks refused": done.refused }),
    },
    failures: felt.failures,
    outcomes: done?.outcomes ?? {},
  };
}

/** The victim's process or the attacker's. Each is prepared before either begins, so that both begin together. */
class Participant {
  readonly #child: ChildProcess;
  readonly #messages: ReturnType<typeof messagesOf>;

  constructor(name: "victim" | "attacker") {
    this.#child = startArm(name);
    this.#messages = messagesOf(this.#child, `the ${name}`);
  }

  async prepare(input: object): Promise<void> {
    this.#child.send({ input });
    await this.#messages.next();
  }

  begin(): void {
    this.#child.send({ begin: true });
  }

  /** Rejects if the process says nothing until long after its time. */
  async answer(durationMs: number): Promise<unknown> {
    const timer = setTimeout(() => this.end(), durationMs + overtimeMs);
    try {
      return await this.#messages.next();
    } finally {
      clearTimeout(timer);
    }
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}
