/** Resident memory of the whole process after so many tenants of one shape have each been served. */
import type { Bench } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import type { Figures } from "./report.ts";
import { rssMb, startServer } from "./server.ts";

const arms = ["stock", "dedicated", "pooled"] as const;
const query = "{ allT1Items(first: 1) { nodes { name } } }";

/** Serves tenants one after the other and notes the memory at each mark; an arm that dies keeps what it had. */
async function measure(arm: string, database: BenchDatabase, marks: readonly number[]): Promise<Figures> {
  const server = await startServer(arm, database, database.tenants);
  const figures: Record<string, number> = {};
  try {
    for (const [index, tenant] of database.tenants.entries()) {
      const answer = await server.ask(tenant.id, query).catch((error: unknown) => String(error));
      if (!answer.includes(`${tenant.id} item 1`)) {
        figures["tenants served before it failed"] = index;
        return figures;
      }
      if (marks.includes(index + 1)) figures[`RSS MB, ${index + 1} served`] = await rssMb(server.child.pid);
    }
    return figures;
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 100 : 1000, tables = 5 }) {
    const marks = [1, 10, 100, 500, 1000].filter((mark) => mark <= tenants);
    const database = await benchDatabase(tenants, tables);
    const rounds: Record<string, Figures[]> = {};
    try {
      for (const arm of arms) rounds[arm] = [await measure(arm, database, marks)];
    } finally {
      await database.close();
    }
    const found = Object.fromEntries(arms.map((arm) => [arm, rounds[arm]?.[0] ?? {}]));
    const last = `RSS MB, ${marks.at(-1)} served`;
    const figure = (arm: string, name: string): number => found[arm]?.[name] ?? Number.NaN;
    return {
      arms: found,
      rounds,
      ratios: {
        [`pooled, ${marks.at(-1)} served over 1`]:
          figure("pooled", last) / figure("pooled", "RSS MB, 1 served"),
      },
      notes: [
        `database: ${tenants} tenants × ${tables} tables, one shape; stock keeps one instance per tenant, as its heap allows`,
        "dedicated cells evict what was used least recently: the plan is 2048 MB",
      ],
      charts: [
        {
          title: `Memory of the process after ${marks.at(-1)} tenants have each been served`,
          unit: "MB",
          bars: arms.map((arm) => {
            const died = found[arm]?.["tenants served before it failed"];
            const most = Math.max(
              ...marks.map((mark) => figure(arm, `RSS MB, ${mark} served`)).filter((value) => value > 0),
              0,
            );
            return died === undefined
              ? { label: arm, value: most }
              : { label: arm, value: most, note: `failed after ${died} tenants` };
          }),
        },
      ],
    };
  },
};

export default bench;
