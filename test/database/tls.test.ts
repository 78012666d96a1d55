import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { Database } from "../../src/postgres/database.ts";
import { TenantPool } from "../../workers/postgres/connection-pool.ts";
import { startTlsServer, type TlsServer } from "../support/tls-server.ts";

const everybody = ["host all all 127.0.0.1/32 scram-sha-256", "host all all ::1/128 scram-sha-256"];
const onlyTls = ["hostssl all all all scram-sha-256"];
const onlyPlain = ["hostnossl all all all scram-sha-256"];
const withCertificate = ["hostssl all all all scram-sha-256 clientcert=verify-ca"];

let server: TlsServer;

beforeAll(async () => {
  server = await startTlsServer();
});
afterAll(() => server.close());

function url(parameters: Record<string, string>, host = "127.0.0.1", base = server.url): string {
  const made = new URL(base);
  made.hostname = host;
  for (const [name, value] of Object.entries(parameters)) made.searchParams.set(name, value);
  return made.href;
}

const question = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

/** Whether the front's connections and a cell's are encrypted; both must agree. */
async function encrypted(target: string): Promise<boolean> {
  const front = new Database({
    name: "main",
    url: target,
    applicationName: "rowhouse:tls",
    observe: () => {},
  });
  const cell = new TenantPool({
    url: target,
    poolSize: 1,
    poolReserve: 0,
    applicationName: "rowhouse:tls",
    resultBytes: 1_000_000,
    statementTimeoutMs: 30_000,
    log: () => undefined,
  });
  try {
    const { rows } = await front.query(question);
    const connection = await cell.acquire();
    const sent = await connection.send([{ text: question }]);
    connection.release();
    expect(sent.rows).toEqual(rows);
    return JSON.stringify(rows).includes("true");
  } finally {
    await front.close();
    await cell.close();
  }
}

describe.each<[string, string[], Record<string, boolean | RegExp>]>([
  ["that accepts both", everybody, { disable: false, allow: false, prefer: true, require: true }],
  [
    "that accepts only TLS",
    onlyTls,
    { disable: /no pg_hba\.conf entry/, allow: true, prefer: true, require: true },
  ],
  [
    "that accepts no TLS",
    onlyPlain,
    { disable: false, allow: false, prefer: false, require: /no pg_hba\.conf entry/ },
  ],
])("to a server %s", (_, rules, expected) => {
  beforeAll(() => server.admit(rules));
  it.each(Object.entries(expected))("sslmode=%s connects as libpq does", async (sslmode, outcome) => {
    const asked = encrypted(url({ sslmode }));
    if (typeof outcome === "boolean") expect(await asked).toBe(outcome);
    else await expect(asked).rejects.toThrow(outcome);
  });
});

it.each<[string, boolean | RegExp]>([
  ["disable", false],
  ["allow", false],
  ["prefer", false],
  ["require", /does not support TLS.*ssl = on.*sslmode=disable/],
  ["verify-full", /does not support TLS/],
])(
  "to a server without TLS, sslmode=%s connects as libpq does, or says what to do",
  async (sslmode, outcome) => {
    const asked = encrypted(url({ sslmode }, "127.0.0.1", inject("clusterUrl")));
    if (typeof outcome === "boolean") expect(await asked).toBe(outcome);
    else
      await expect(asked).rejects.toMatchObject({
        code: "DATABASE_UNREACHABLE",
        message: expect.stringMatching(outcome),
      });
  },
);

it("without sslmode TLS is used if the server has it, as libpq does", async () => {
  await server.admit(everybody);
  expect(await encrypted(url({}))).toBe(true);
});

describe("the server's certificate", () => {
  beforeAll(() => server.admit(everybody));
  const { ca, otherCa } = { ca: () => server.files.ca, otherCa: () => server.files.otherCa };
  it.each<[string, () => Record<string, string>, string, true | RegExp]>([
    ["is not verified with require", () => ({ sslmode: "require" }), "127.0.0.1", true],
    [
      "is verified with require and a root certificate",
      () => ({ sslmode: "require", sslrootcert: otherCa() }),
      "127.0.0.1",
      /not accepted.*sslrootcert=FILE/,
    ],
    [
      "passes verify-ca by its authority, whatever its name",
      () => ({ sslmode: "verify-ca", sslrootcert: ca() }),
      "127.0.0.1",
      true,
    ],
    [
      "of another authority fails verify-ca",
      () => ({ sslmode: "verify-ca", sslrootcert: otherCa() }),
      "127.0.0.1",
      /not accepted/,
    ],
    [
      "passes verify-full by its own name",
      () => ({ sslmode: "verify-full", sslrootcert: ca() }),
      "localhost",
      true,
    ],
    [
      "fails verify-full by another name",
      () => ({ sslmode: "verify-full", sslrootcert: ca() }),
      "127.0.0.1",
      /not accepted.*connect by a name in the certificate/,
    ],
    [
      "of an unknown authority fails with sslrootcert=system",
      () => ({ sslrootcert: "system" }),
      "localhost",
      /not accepted/,
    ],
  ])("%s", async (_, parameters, host, outcome) => {
    const asked = encrypted(url(parameters(), host));
    if (outcome === true) expect(await asked).toBe(true);
    else
      await expect(asked).rejects.toMatchObject({
        code: "DATABASE_UNREACHABLE",
        message: expect.stringMatching(outcome),
      });
  });
});

it("a client certificate is sent if configured, and the server refuses a client without one", async () => {
  await server.admit(withCertificate);
  const { cert, key } = server.files;
  expect(await encrypted(url({ sslmode: "require", sslcert: cert, sslkey: key }))).toBe(true);
  await expect(encrypted(url({ sslmode: "require" }))).rejects.toThrow(/certificate/);
  await server.admit(everybody);
});

it("a statement on an encrypted connection can be cancelled", async () => {
  const cell = new TenantPool({
    url: url({ sslmode: "require" }),
    poolSize: 1,
    poolReserve: 0,
    applicationName: "rowhouse:tls-cancel",
    resultBytes: 1_000_000,
    statementTimeoutMs: 60_000,
    log: () => undefined,
  });
  const watch = new Database({
    name: "main",
    url: url({}),
    applicationName: "rowhouse:watch",
    observe: () => {},
  });
  const active = async () =>
    (
      await watch.query(
        "select from pg_stat_activity where application_name = 'rowhouse:tls-cancel' and state = 'active'",
      )
    ).rows.length;
  const connection = await cell.acquire();
  const sleeping = connection.send([{ text: "select pg_sleep(60)" }]).catch((error: unknown) => error);
  await expect.poll(active).toBe(1);
  connection.cancel();
  expect(await sleeping).toMatchObject({ message: "the query was cancelled" });
  await expect.poll(active).toBe(0);
  connection.release();
  await cell.close();
  await watch.close();
});
