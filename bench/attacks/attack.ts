/** The contract of an attack of the bench `fairness`: its input, and how its requests are counted. */
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { z } from "zod";

export const targetShape = z.object({
  /** The GraphQL endpoint. */
  url: z.string(),
  /** The victim's id, which anybody may know. */
  victim: z.string(),
  /** Ids of tenants that have the victim's shape, and therefore share its instance. */
  attackers: z.array(z.string()).min(4),
  /** The secret that signs the first attacker's own tokens. */
  secret: z.string(),
  /** Ids of tenants that each have a shape of their own. */
  others: z.array(z.string()),
  durationMs: z.number(),
});

export type Target = z.infer<typeof targetShape>;

export interface Attack {
  /** What it does: one sentence, which docs/benches.md repeats. */
  readonly does: string;
  /** Where the host reads its tenants from; by default the list in its config. */
  readonly tenants?: "list" | "table";
  /** Set where nothing reads the host's standard output during the attack. */
  readonly unread?: boolean;
  /** Resolves when the time is up. What is still open then ends with the attacker's process. */
  run(ground: Ground): Promise<void>;
}

/** An upper bound for every attack, however fast the host refuses. */
const mostRequests = 200_000;
/** Pause after a failed connection, so that a dead host does not turn the attacker into a busy loop. */
const pauseMs = 20;

export class Ground {
  readonly target: Target;
  readonly counts = { sent: 0, answered: 0, refused: 0 };
  /** Counts by outcome: status and error code of an answer, or the error of a connection. */
  readonly outcomes = new Map<string, number>();
  readonly #endMs: number;
  readonly #beganMs = performance.now();

  constructor(target: Target) {
    this.target = target;
    this.#endMs = this.#beganMs + target.durationMs;
  }

  get isOver(): boolean {
    return performance.now() >= this.#endMs || this.counts.sent >= mostRequests;
  }

  /** Elapsed share of the time, 0 to 1. */
  get passed(): number {
    return Math.min(1, (performance.now() - this.#beganMs) / this.target.durationMs);
  }

  get remainingMs(): number {
    return Math.max(0, Math.round(this.#endMs - performance.now()));
  }

  /** Counts the outcome of a request. A request that gets no answer in time has none. */
  ended(how: "answered" | "refused", outcome: string): void {
    this.counts[how] += 1;
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
  }
}

export interface Asked {
  /** Sent as `x-tenant`. */
  readonly tenant?: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Answers are read to their end, but only this much of one is searched for errors. */
const lookedAtBytes = 2_048;

/** Sends what `next` makes for each ordinal, `atOnce` requests at a time without pause, until the time is up. */
export async function askOnAndOn(
  ground: Ground,
  atOnce: number,
  next: (ordinal: number) => Asked,
): Promise<void> {
  const agent = new Agent({ connections: atOnce, headersTimeout: 0, bodyTimeout: 0 });
  const signal = AbortSignal.timeout(ground.remainingMs);
  const asking = Array.from({ length: atOnce }, async () => {
    while (!ground.isOver) {
      const asked = next(ground.counts.sent);
      ground.counts.sent += 1;
      await ask(ground, agent, signal, asked);
    }
  });
  await Promise.all(asking);
  await agent.destroy();
}

/** An answer counts as refused unless its status is 200 and no error in it has a code. */
async function ask(ground: Ground, agent: Agent, signal: AbortSignal, asked: Asked): Promise<void> {
  try {
    const { statusCode, body } = await request(ground.target.url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json",
        ...(asked.tenant === undefined ? {} : { "x-tenant": asked.tenant }),
        ...asked.headers,
      },
      body: asked.body,
      dispatcher: agent,
      signal,
    });
    let start = "";
    for await (const chunk of body) {
      if (start.length < lookedAtBytes && Buffer.isBuffer(chunk))
        start += chunk.toString("latin1", 0, lookedAtBytes);
    }
    const code = /"code":"([A-Z_]+)"/.exec(start)?.[1];
    const errors = start.includes('"errors"') ? " with errors" : "";
    ground.ended(
      statusCode === 200 && code === undefined ? "answered" : "refused",
      code === undefined ? `${statusCode}${errors}` : `${statusCode} ${code}`,
    );
  } catch (error) {
    if (signal.aborted) return;
    ground.ended("refused", error instanceof Error && "code" in error ? String(error.code) : "no answer");
    await sleep(pauseMs);
  }
}

/** The JSON body of a GraphQL request. */
export const bodyOf = (query: string, variables: object = {}): string => JSON.stringify({ query, variables });
