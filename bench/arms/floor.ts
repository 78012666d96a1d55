/**
 * The floor: a bare Node server that knows each operation's SQL beforehand, and runs it in the transaction that a tenant's request
 * needs, as one burst of pg. No GraphQL, no routing, no guard, no clearing of the session: nothing that serves tenants can be faster.
 */
import { createServer } from "node:http";
import { text as textOf } from "node:stream/consumers";
import pg from "pg";
import { z } from "zod";
import { searchPathText } from "../../src/shared/postgres/search-path.ts";
import { operations } from "../operations.ts";
import { armInput, reply } from "./input.ts";

interface Known {
  /** Null if the answer needs no SQL. */
  readonly sql: string | null;
  answer(rows: readonly unknown[]): unknown;
}

const columns = `id as "rowId", name, mood, amount::text`;

/** By the text of the query. */
const known: Readonly<Record<string, Known>> = {
  [operations.typename]: { sql: null, answer: () => ({ __typename: "Query" }) },
  [operations["one row"]]: {
    sql: `select ${columns} from t1_item where id = 3`,
    answer: ([row]) => ({ t1ItemByRowId: row }),
  },
  [operations["one query"]]: {
    sql: `select ${columns} from t1_item order by id limit 10`,
    answer: (nodes) => ({ allT1Items: { nodes } }),
  },
  [operations.nested]: {
    sql: `select c.name, case when b.id is not null then
        json_build_object('name', b.name, 't1ItemByParentId', case when a.id is not null then json_build_object('name', a.name) end)
      end as "t2ItemByParentId"
      from (select * from t3_item order by id limit 5) c left join t2_item b on b.id = c.parent_id
      left join t1_item a on a.id = b.parent_id order by c.id`,
    answer: (nodes) => ({ allT3Items: { nodes } }),
  },
  [operations.mutation]: {
    sql: "insert into t1_item (name, amount) values ('made', '1.5') returning name, amount::text",
    answer: ([t1Item]) => ({ createT1Item: { t1Item } }),
  },
};

const { url, tenants } = await armInput();
const paths = new Map(tenants.map(({ id, schemas }) => [id, searchPathText([schemas.app])]));
const roles = new Map(tenants.map(({ id, roles: { anonymous } }) => [id, anonymous]));
const pool = new pg.Pool({ connectionString: url, max: 8, pipeline: true });
pool.on("error", () => undefined);
const settings = "select set_config('role', $1, true), set_config('search_path', $2, true)";
const bodyShape = z.object({ query: z.string() });

async function rowsOf(tenant: string, query: string, sql: string): Promise<readonly unknown[]> {
  const client = await pool.connect();
  const { stream } = client.connection;
  try {
    stream.cork();
    const sent = [
      client.query("begin"),
      client.query({ name: "settings", text: settings, values: [roles.get(tenant), paths.get(tenant)] }),
      // Each tenant's own: prepared for another path it would be planned anew each time.
      client.query({ name: `${tenant} ${Object.keys(known).indexOf(query)}`, text: sql }),
      client.query("commit"),
    ] as const;
    stream.uncork();
    const [, , { rows }] = await Promise.all(sent);
    return rows;
  } finally {
    client.release();
  }
}

const server = createServer((request, response) => {
  void textOf(request).then(async (body) => {
    const { query } = bodyShape.parse(JSON.parse(body));
    const { sql, answer } = known[query] ?? { sql: null, answer: () => null };
    const rows = sql === null ? [] : await rowsOf(String(request.headers["x-tenant"]), query, sql);
    const text = JSON.stringify({ data: answer(rows) });
    response
      .writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
      .end(text);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  void reply({ url: `http://127.0.0.1:${port}/graphql` });
});
