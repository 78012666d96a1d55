/** Attacks by the content of one request body, each just under `limits.bodyBytes` (1 MB). */
import { type Asked, type Attack, askOnAndOn, bodyOf } from "./attack.ts";

/** A node id in PostGraphile's encoding. */
const nodeId = (type: string, key: string): string =>
  Buffer.from(JSON.stringify([type, key])).toString("base64");

/** 300 kB in base64. */
const longKey = "a".repeat(225_000);

const longBodies = [
  bodyOf("query ($id: ID!) { thing(id: $id) { name } }", { id: nodeId("Thing", longKey) }),
  bodyOf("query ($id: ID!) { t1Item(id: $id) { name } }", { id: nodeId("T1Item", longKey) }),
  bodyOf("query ($c: T1ItemCondition) { allT1Items(condition: $c) { nodes { name } } }", {
    c: { createdAt: longKey },
  }),
];

/** The bodies in turn, all from one tenant. */
const inTurn =
  (attackers: readonly string[], bodies: readonly string[]) =>
  (ordinal: number): Asked => ({
    tenant: attackers[0] ?? "",
    body: bodies[ordinal % bodies.length] ?? "",
  });

export const longValues: Attack = {
  does: "Asks for node ids and dates of 300 kB that are no keys: PostgreSQL quotes each of them in its error message.",
  run: (ground) => askOnAndOn(ground, 2, inTurn(ground.target.attackers, longBodies)),
};

const listBodies = (): string[] => [
  // One digit and one comma each make 980 kB.
  bodyOf("query ($numbers: [Int]) { total(numbers: $numbers) }", {
    numbers: Array.from({ length: 490_000 }, (_, n) => n % 10),
  }),
  bodyOf("query ($order: [T1ItemOrderBy!]) { allT1Items(first: 1, orderBy: $order) { nodes { name } } }", {
    order: Array.from({ length: 50_000 }, (_, n) => (n % 2 === 0 ? "ROW_ID_ASC" : "ROW_ID_DESC")),
  }),
];

export const lists: Attack = {
  does: "Sends a list of 490,000 integers as a variable, and an `orderBy` of 50,000 values.",
  run: (ground) => askOnAndOn(ground, 2, inTurn(ground.target.attackers, listBodies())),
};

const nested = (open: string, close: string, depth: number): string =>
  `${open.repeat(depth)}1${close.repeat(depth)}`;

/** Takes the variable as JSON text: JSON.stringify would overflow the stack. */
const valueBody = (value: string): string =>
  `{"query":"query ($value: JSON) { sizeOf(value: $value) }","variables":{"value":${value}}}`;

const deepBodies = (): string[] => [
  valueBody(nested("[", "]", 500_000)),
  valueBody(nested('{"a":', "}", 160_000)),
  // Shallow enough for recursive code to survive, so that it gets as far as PostgreSQL.
  valueBody(nested("[", "]", 2_000)),
  valueBody(JSON.stringify(Object.fromEntries(Array.from({ length: 80_000 }, (_, n) => [`k${n}`, 1])))),
];

export const deepJson: Attack = {
  does: "Sends JSON variables nested 500,000 arrays or 160,000 objects deep, and objects of 80,000 keys.",
  run: (ground) => askOnAndOn(ground, 2, inTurn(ground.target.attackers, deepBodies())),
};
