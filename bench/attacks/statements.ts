/** Attacks by the SQL that a tenant's own schema runs. */
import { type Attack, askOnAndOn, bodyOf } from "./attack.ts";

const napSeconds = 2;

export const slowSql: Attack = {
  does: "Two tenants, then four, call a function that sleeps for two seconds, 32 calls at a time in all; a cell has four connections.",
  run: (ground) => {
    const body = bodyOf(`{ nap(seconds: ${napSeconds}) }`);
    const { attackers } = ground.target;
    return askOnAndOn(ground, 32, (ordinal) => {
      const asking = ground.passed < 0.5 ? attackers.slice(0, 2) : attackers;
      return { tenant: asking[ordinal % asking.length] ?? "", body };
    });
  },
};

export const results: Attack = {
  does: "Reads results of 31 MB, two at a time; the limit is 32 MB.",
  run: (ground) => {
    const [tenant = ""] = ground.target.attackers;
    const body = bodyOf("{ allPages { nodes { body } } }");
    return askOnAndOn(ground, 2, () => ({ tenant, body }));
  },
};

export const locks: Attack = {
  does: "Calls a function that takes the advisory lock of the victim's writes exclusively, and every other advisory lock that it sees in `pg_locks`, for two seconds at a time.",
  run: (ground) => {
    const { attackers, victim } = ground.target;
    const body = bodyOf(`{ holdLocks(tenants: [${JSON.stringify(victim)}], seconds: ${napSeconds}) }`);
    return askOnAndOn(ground, 2, (ordinal) => ({ tenant: attackers[ordinal % 2] ?? "", body }));
  },
};
