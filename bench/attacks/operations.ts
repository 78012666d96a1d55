/** Attacks by GraphQL operations that are expensive to plan, though within `limits.fields` (1000) and `limits.depth` (16). */
import { type Attack, askOnAndOn, bodyOf } from "./attack.ts";

/** Selections that go up a foreign key and down again, three levels at a time; the aliases make each operation's text unique. */
function chain(levels: number, ordinal: number): string {
  const name = `n${ordinal}: name`;
  if (levels < 3) return `${name} mood amount`;
  return `${name} rowId t1ItemByParentId { ${name} t2ItemsByParentId(first: 1, orderBy: PRIMARY_KEY_DESC) { nodes { ${chain(levels - 3, ordinal)} } } }`;
}

/** About 900 fields in 14 levels. A different `first` for each list keeps Grafast from merging them into one step. */
function costlyOperation(ordinal: number): string {
  const lists = Array.from(
    { length: 33 },
    (_, n) => `q${n}: allT2Items(first: ${n + 1}) { nodes { ${chain(12, ordinal)} } }`,
  );
  return `{ ${lists.join(" ")} }`;
}

export const operations: Attack = {
  does: "Sends 32 operations at a time, each with a different text and about 900 fields, so that every one is parsed, validated and planned.",
  run: (ground) => {
    const [tenant = ""] = ground.target.attackers;
    return askOnAndOn(ground, 32, (ordinal) => ({ tenant, body: bodyOf(costlyOperation(ordinal)) }));
  },
};
