/** Runs one attack in a process of its own: reports that it is ready, begins when told to, and reports its counts. */
import { on } from "node:events";
import { setPriority } from "node:os";
import { z } from "zod";
import { Ground, targetShape } from "../attacks/attack.ts";
import { attacks } from "../attacks/list.ts";

/** Real attackers have machines of their own: here their CPU time must not be taken for the host's slowness. */
const lowPriority = 5;
const message = z.object({ input: z.object({ attack: z.string(), target: targetShape }) });

setPriority(lowPriority);
const messages = on(process, "message");
const [first]: unknown[] = (await messages.next()).value ?? [];
const { attack, target } = message.parse(first).input;
const chosen = attacks[attack];
if (chosen === undefined) throw new Error(`no attack is called ${attack}`);
process.send?.({ kind: "ready" });
await messages.next();
const ground = new Ground(target);
await chosen.run(ground);
process.send?.({ ...ground.counts, outcomes: Object.fromEntries(ground.outcomes) }, () => process.exit(0));
