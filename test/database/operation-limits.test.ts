import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HostError } from "../../src/shared/kernel/errors.ts";
import { collectGarbage } from "../../src/shared/memory/gc.ts";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Answered, Worker, type WorkerOptions } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
let worker: Worker;
let serv: CellServ;

beforeAll(async () => {
  database = await createDatabase("limits");
  await database.execute(workerTenantSql("ada"));
  await database.execute(
    "create function ada.echo(said text) returns text stable language sql as 'select said'",
  );
  [worker, serv] = await start({});
});
afterAll(() => database.drop());

async function start(options: WorkerOptions): Promise<[Worker, CellServ]> {
  const started = new Worker(database, options);
  return [started, await started.build("pooled", { app: "ada" })];
}

const ask = (query: string, [by, on]: [Worker, CellServ] = [worker, serv]) =>
  by.ask(on, { tenant: "ada", query });
const megabytes = (): number => collectGarbage() / 2 ** 20;

const nested = (open: string, close: string, levels: number): string =>
  `{ allPeople(filter: ${open.repeat(levels)}${close.repeat(levels)}) { nodes { name } } }`;
const levels = (depth: number): string => `${"{ a: query ".repeat(depth)}{ whoami }${" }".repeat(depth)}`;
const aliases = (count: number): string =>
  `{ ${Array.from({ length: count }, (_, n) => `a${n}: whoami`).join(" ")} }`;

describe("an operation", () => {
  it.each<[string, string]>([
    ["a thousand fields and one", aliases(1_001)],
    ["a megabyte of one field", `{ ${"whoami ".repeat(150_000)}}`],
    ["a megabyte of nonsense", `{ ${"a ".repeat(500_000)}}`],
    ["a megabyte of comments", `${"#\n".repeat(500_000)}{ whoami }`],
    ["a megabyte of braces", "{a".repeat(500_000)],
    ["a megabyte of arguments", `{ whoami(${"a:1 ".repeat(250_000)}) }`],
    ["deeply nested lists", nested("[", "]", 9_000)],
    ["deeply nested objects", nested("{and:", "}", 6_000)],
    ["seventeen levels", levels(17)],
    ["seventeen levels in fragments", `{ ...f } fragment f on Query ${levels(17)}`],
    ["nine hundred levels", levels(900)],
  ])("of %s is refused with OPERATION_TOO_COMPLEX", async (_, query) => {
    const { status, json } = await ask(query);
    expect([status, json.errors]).toEqual([
      400,
      [{ message: expect.any(String), extensions: { code: "OPERATION_TOO_COMPLEX" } }],
    ]);
  });

  it.each<[string, string]>([
    ["a thousand fields", aliases(1_000)],
    ["sixteen levels", levels(16)],
    ["blanks and a comment", `${" ".repeat(900_000)}# hello\n{ whoami }`],
    ["a long string of comment characters", `{ echo(said: "${"#".repeat(19_000)}") }`],
  ])("of %s is answered", async (_, query) => {
    const { status, json } = await ask(query);
    expect([status, json.errors]).toEqual([200, undefined]);
  });

  it("that does not parse or validate leaves next to nothing in memory, however many there are", async () => {
    const filling = "x".repeat(900_000);
    await ask(`{ "${filling}" }`);
    const before = megabytes();
    for (let n = 0; n < 40; n += 1) {
      await ask(`{ nothing${n}(a: "${filling}") }`);
      await ask(`{ "${filling}${n}" }`);
    }
    expect(megabytes() - before).toBeLessThan(20);
  });

  it("of hundreds of fields leaves a plan that later ones evict", async () => {
    const plan = (tag: number): string =>
      `{ ${Array.from({ length: 40 }, (_, n) => `a${tag}_${n}: allPeople(first: 1) { nodes { name } }`).join(" ")} }`;
    const [limited, on] = await start({});
    expect((await ask(plan(0), [limited, on])).json.errors).toBeUndefined();
    const plans = limited.instances.plans;
    const mostFields = plans.maxSize;
    for (let n = 1; n <= mostFields / 120 + 3; n += 1) await ask(plan(n), [limited, on]);
    expect(plans.calculatedSize).toBeGreaterThan(mostFields / 2);
    expect(plans.calculatedSize).toBeLessThanOrEqual(mostFields);
  });
});

describe("the variables of a request", () => {
  const echo =
    'query ($v: [String!]) { echo(said: "a") allPeople(first: 1) { nodes { name } } a: __typename }';
  const said = "query ($said: String!) { echo(said: $said) }";
  const deep = (levels: number): string => `${"[".repeat(levels)}1${"]".repeat(levels)}`;
  const withVariables = (query: string, variables: string): Promise<Answered> =>
    worker.ask(serv, { tenant: "ada", body: `{"query":${JSON.stringify(query)},"variables":${variables}}` });

  it.each<[string, string]>([
    ["20,001 values in a list", `{"v":[${Array(20_000).fill(1).join()}]}`],
    ["half a million integers", `{"v":[${Array(490_000).fill(1).join()}]}`],
    ["20,001 names", `{${Array.from({ length: 20_001 }, (_, n) => `"v${n}":1`).join()}}`],
    ["lists of empty lists", `{"v":[${Array(30_000).fill("[]").join()}]}`],
    ["65 levels", `{"v":${deep(64)}}`],
    ["as many levels as a megabyte holds", `{"v":${deep(500_000)}}`],
    ["deeply nested objects", `{"v":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}}`],
  ])("with %s are refused with VARIABLES_TOO_LARGE before anything walks them", async (_, variables) => {
    // Refused by the host itself if the request's text already shows it.
    const refused = await withVariables(said, variables).then(
      ({ status, json }) => [status, json.errors[0].extensions.code, json.errors[0].message],
      (error: HostError) => [error.status, error.code, error.publicText],
    );
    expect(refused).toEqual([
      400,
      "VARIABLES_TOO_LARGE",
      expect.stringMatching(/^The variables (hold more than 20000 values|are more than 64 levels deep)\.$/),
    ]);
  });

  it("of one long string count as one value", async () => {
    const { status, json } = await withVariables(said, JSON.stringify({ said: "x".repeat(900_000) }));
    expect([status, json.errors, json.data.echo.length]).toEqual([200, undefined, 900_000]);
  });

  it("with 20,000 values are accepted", async () => {
    const { json } = await withVariables(echo, `{"v":[${Array(19_999).fill('"a"').join()}]}`);
    expect(json.errors[0].message).toBe('Variable "$v" is never used.');
  });

  it("may be larger if the limits allow it", async () => {
    const wide = await start({ operations: { variables: 30_000, variablesDepth: 100 } });
    const ask = (variables: string) =>
      wide[0].ask(wide[1], { tenant: "ada", body: `{"query":"{ whoami }","variables":${variables}}` });
    expect((await ask(`{"v":[${Array(29_000).fill(1).join()}],"w":${deep(90)}}`)).status).toBe(200);
    await expect(ask(`{"v":[${Array(30_100).fill(1).join()}]}`)).rejects.toMatchObject({ status: 400 });
  });

  it.each<[string, string, unknown]>([
    [
      "in a variable",
      "query ($o: [PersonOrderBy!]) { allPeople(orderBy: $o) { nodes { name } } }",
      Array(101).fill("NATURAL"),
    ],
    ["written out", `{ allPeople(orderBy: [${"NATURAL ".repeat(101)}]) { nodes { name } } }`, undefined],
    [
      "as a variable's default",
      `query ($o: [PersonOrderBy!] = [${"NATURAL ".repeat(101)}]) { allPeople(orderBy: $o) { nodes { name } } }`,
      undefined,
    ],
  ])("may order by at most a hundred values, %s", async (_, query, o) => {
    const { status, json } = await worker.ask(serv, { tenant: "ada", query, variables: { o } });
    expect([status, json.errors]).toEqual([
      400,
      [
        {
          message: "A list holds more than 100 values of PersonOrderBy.",
          extensions: { code: "VARIABLES_TOO_LARGE" },
        },
      ],
    ]);
    const fewer = query.replace("NATURAL ", "");
    const asked = { tenant: "ada", query: fewer, variables: { o: Array.isArray(o) ? o.slice(1) : o } };
    expect((await worker.ask(serv, asked)).json.errors).toBeUndefined();
  });

  it("are limited in a request's extensions as well", async () => {
    const body = `{"query":"{ whoami }","extensions":{"v":${deep(500_000)}}}`;
    await expect(worker.ask(serv, { tenant: "ada", body })).rejects.toMatchObject({
      code: "VARIABLES_TOO_LARGE",
    });
  });
});

describe("introspection", () => {
  const queries = [
    "{ __schema { queryType { name } } }",
    '{ a: __type(name: "Person") { name } }',
    "{ query { ...f } } fragment f on Query { ... { __schema { description } } }",
  ];

  it.each(queries)("%s is answered while it is on", async (query) => {
    expect((await ask(query)).json.errors).toBeUndefined();
  });

  it("that is off is refused with INTROSPECTION_DISABLED, and errors reveal no names either", async () => {
    const closed = await start({ operations: { introspection: false } });
    for (const query of queries) {
      const { status, json } = await ask(query, closed);
      expect([status, json.errors[0].extensions.code]).toEqual([400, "INTROSPECTION_DISABLED"]);
    }
    expect((await ask("{ __typename whoami }", closed)).json.errors).toBeUndefined();
    const misspelt = "{ allPeopl { nodes { nam } } allPeople(fist: 1) { nodes { nam } } }";
    expect(JSON.stringify((await ask(misspelt)).json)).toContain("Did you mean");
    const { json } = await ask(misspelt, closed);
    expect(json.errors.map(({ message }: { message: string }) => message)).toEqual([
      'Cannot query field "allPeopl" on type "Query".',
      'Unknown argument "fist" on field "Query.allPeople".',
      'Cannot query field "nam" on type "Person".',
    ]);
    expect(json.errors[0].locations).toHaveLength(1);
  });
});

describe("with introspection off", () => {
  const people = "query($mood: Mood) { allPeople(condition: { mood: $mood }) { nodes { name } } }";
  const create = "mutation($input: CreatePersonInput!) { createPerson(input: $input) { clientMutationId } }";
  const own = ' Did you mean "this"?';

  it.each<[what: string, query: string, variables: Record<string, unknown>, told: RegExp]>([
    ["an enum value", people, { mood: "HAPY" }, /Value "HAPY" does not exist in "Mood" enum\.$/],
    [
      "an input field",
      create,
      { input: { person: { name: "x", nam: "x" } } },
      /Field "nam" is not defined by type "PersonInput"\.$/,
    ],
    [
      "an input field beside a value that reads like a suggestion",
      create,
      { input: { person: { name: own, nam: "x" } } },
      /got invalid value \{.*Did you mean.*this.*\} at "input\.person"; Field "nam" is not defined by type "PersonInput"\.$/,
    ],
  ])(
    "a variable's error keeps its text except for the suggestion, for %s",
    async (_, query, variables, told) => {
      const closed = await start({ operations: { introspection: false } });
      const open = await worker.ask(serv, { tenant: "ada", query, variables });
      expect(open.json.errors[0].message).toMatch(/\. Did you mean (the enum value )?"\w+"\?$/);
      const { json } = await closed[0].ask(closed[1], { tenant: "ada", query, variables });
      expect(json.errors).toEqual([{ ...open.json.errors[0], message: expect.stringMatching(told) }]);
      expect(json.errors[0].message).toBe(open.json.errors[0].message.replace(/ Did you mean [^?]*\?$/, ""));
    },
  );

  it("a client's value that reads like a suggestion does not truncate the error", async () => {
    const closed = await start({ operations: { introspection: false } });
    const request = { tenant: "ada", query: people, variables: { mood: `x${own}` } };
    const { json } = await closed[0].ask(closed[1], request);
    expect(json.errors[0].message).toMatch(/does not exist in "Mood" enum\.$/);
    expect(json).toEqual((await worker.ask(serv, request)).json);
  });

  it("the message of a tenant's own function stays unchanged", async () => {
    await database.execute(
      `create function ada.complain() returns int stable language plpgsql as $$ begin raise 'No such thing. Did you mean "that"?'; end $$`,
    );
    const closed = await start({ operations: { introspection: false } });
    const { json } = await ask("{ complain }", closed);
    expect(json.errors[0].message).toBe('No such thing. Did you mean "that"?');
  });
});

describe("a statement", () => {
  it("is ended by PostgreSQL itself after the limit, with STATEMENT_TIMEOUT, and the connection is kept", async () => {
    const brief = await start({ statementTimeoutMs: 300, poolSize: 1, production: true });
    const before = await ask("{ whoami }", brief);
    const { status, json } = await ask("{ sleep(seconds: 20) }", brief);
    expect([status, json.errors[0]]).toMatchObject([
      200,
      { path: ["sleep"], extensions: { code: "STATEMENT_TIMEOUT" } },
    ]);
    expect((await ask("{ whoami }", brief)).json).toEqual(before.json);
  });

  it("is limited by the timeout of its role or database if that is shorter", async () => {
    const role = "limits_brief";
    await database.execute(`
      create role ${role} login password 'brief'; alter role ${role} set statement_timeout = '250ms'; grant ada to ${role}`);
    const brief = await start({ url: database.urlAs(role, "brief"), poolSize: 1 });
    const asked = await ask("{ sleep(seconds: 20) }", brief);
    expect(asked.json.errors[0].extensions.code).toBe("STATEMENT_TIMEOUT");
    await database.execute(`drop owned by ${role}; drop role ${role}`);
  });
});
