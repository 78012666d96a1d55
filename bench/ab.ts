import { benchDatabase } from "./database.ts";
import { threadCpuSeconds } from "./processes.ts";
import { measureLoad, startRowhouse } from "./server.ts";
const [, , roundsText = "6", ...rest] = process.argv;
const hosts: Record<string, string | undefined> = {};
for (const r of rest) { const [k, v] = r.split("="); hosts[k as string] = v === "." ? undefined : v; }
const ops: Record<string, string> = {
  typename: "{ __typename }",
  "one row": "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  "one query": "{ allT1Items(first: 10, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name mood amount } } }",
  nested: "{ allT3Items(first: 5) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
  mutation: 'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
};
const only = process.env["OPS"]?.split(",");
const database = await benchDatabase(4, 10);
await database.installControl();
const servers: Record<string, Awaited<ReturnType<typeof startRowhouse>>> = {};
try {
  for (const [k, v] of Object.entries(hosts))
    servers[k] = await startRowhouse({ database, tenants: database.tenants, poolSize: 8, config: { pooling: true }, host: v, execArgv: (process.env["ARGV"] ?? "").split(" ").filter(Boolean) } as never);
  const tenants = database.tenants.map(({ id }) => id);
  for (const s of Object.values(servers)) for (const t of tenants) for (const q of Object.values(ops)) await s.ask(t, q);
  for (const [name, query] of Object.entries(ops)) {
    if (only && !only.includes(name)) continue;
    const got: Record<string, Record<string, number[]>> = {};
    for (let r = 0; r < Number(roundsText); r += 1) {
      const keys = Object.keys(servers); if (r % 2) keys.reverse();
      for (const k of keys) {
        const server = servers[k]!;
        const before = await threadCpuSeconds(server.child.pid);
        const f: any = await measureLoad({ server, database, tenants, query }, Number(process.env["MS"] ?? 2000));
        const after = await threadCpuSeconds(server.child.pid);
        const per = 1e6 / (f.requests * (4 / 3));
        const front = (after.main - before.main) * per;
        const all = (after.all - before.all) * per;
        const g = (got[k] ??= {});
        for (const [n, v] of Object.entries({ rps: f["req/s"], front, rest: all - front, pg: f["postgres CPU µs"], p99: f["p99 ms"] })) (g[n] ??= []).push(v as number);
      }
    }
    for (const [k, g] of Object.entries(got)) {
      const m = (a: number[]) => a.toSorted((x, y) => x - y)[a.length >> 1]!;
      console.log(name.padEnd(10), k.padEnd(8), Object.entries(g).map(([n, a]) => `${n} ${m(a).toFixed(n === "p99" ? 2 : 0)}`).join("  "));
    }
  }
} finally { for (const s of Object.values(servers)) await s.stop(); await database.close(); }
process.exit(0);
