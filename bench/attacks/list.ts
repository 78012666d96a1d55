/** The attacks of `fairness` by name, in the order of docs/benches.md. */
import type { Attack } from "./attack.ts";
import { deepJson, lists, longValues } from "./bodies.ts";
import { halfBodies, idleSockets, subscriptions } from "./connections.ts";
import { builds, hosts, logFlood, tokens } from "./doors.ts";
import { operations } from "./operations.ts";
import { locks, results, slowSql } from "./statements.ts";

export const attacks: Readonly<Record<string, Attack>> = {
  "long values": longValues,
  lists,
  operations,
  "deep JSON": deepJson,
  "slow SQL": slowSql,
  results,
  "half bodies": halfBodies,
  "idle sockets": idleSockets,
  locks,
  subscriptions,
  builds,
  tokens,
  hosts,
  "log flood": logFlood,
};
