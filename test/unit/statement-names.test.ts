import { describe, expect, it } from "vitest";
import { StatementNames } from "../../workers/postgres/statement-names.ts";

const schemas = [
  { logical: "app", physical: "acme_app" },
  { logical: "Odd one", physical: 'acme "odd"' },
  { logical: "public", physical: "acme" },
];
const objects = [
  ["app", "acme_app", ["person", "Pet", "find_pets"]],
  ["Odd one", 'acme "odd"', ["thing"]],
  ["public", "acme", ["orders"]],
  ["public (shared)", "public", ["country", "orders"]],
  ["elsewhere", "elsewhere", ["things"]],
];

function namesOf(kind: "pooled" | "dedicated", learnt: unknown = objects): StatementNames {
  const names = new StatementNames({ kind, schemas });
  names.learn(learnt);
  return names;
}

const pooled = namesOf("pooled");
const dedicated = namesOf("dedicated");

describe("a schema's logical name before the name of an object in it is", () => {
  it.each([
    ['select * from "app"."person"', 'select * from "person"', 'select * from acme_app."person"'],
    ["select * from app.person", "select * from person", "select * from acme_app.person"],
    ["select * from app.PERSON p", "select * from PERSON p", "select * from acme_app.PERSON p"],
    ['select * from app."Pet"', 'select * from "Pet"', 'select * from acme_app."Pet"'],
    ["select app.find_pets(1)", "select find_pets(1)", "select acme_app.find_pets(1)"],
    [
      "select app.person.name from app.person",
      "select person.name from person",
      "select acme_app.person.name from acme_app.person",
    ],
    ["select null::app.person[]", "select null::person[]", "select null::acme_app.person[]"],
    [
      'insert into "Odd one".thing values ($1)',
      "insert into thing values ($1)",
      'insert into "acme ""odd""".thing values ($1)',
    ],
    ['table "public (shared)".country', "table public.country", "table public.country"],
  ])("replaced by the physical schema: %s", (text, inPool, alone) => {
    expect(pooled.inRequest(text)).toBe(inPool);
    expect(dedicated.inRequest(text)).toBe(alone);
  });

  it("left alone if the word means something else", () => {
    for (const text of [
      "select app.name from person app",
      "select 'app.person', E'\\'app.person', $$app.person$$, $a$ app.person $$ app.person $a$",
      "select 1 -- app.person\n, 2 /* app.person /* app.person */ app.person */",
      "select x.app.person, myapp.person, app_.person, \"app.person\", 'a''app.person'",
      "select * from app.Pet, App.person, APP.person",
      "select * from app.strangers, elsewhere.things, acme_app.person",
      'select __app__."person", $1.app from "app"',
    ]) {
      expect(pooled.inRequest(text)).toBe(text);
      expect(dedicated.inRequest(text)).toBe(text);
    }
  });

  it("also replaced behind text that only looks like literals, comments and parameters", () => {
    expect(pooled.inRequest("select $1, 'it''s', \"a\"\"b\", e'\\\\', 1 - -app.person")).toBe(
      "select $1, 'it''s', \"a\"\"b\", e'\\\\', 1 - -person",
    );
    expect(pooled.inRequest("select 'open, app.person")).toBe("select 'open, app.person");
    expect(pooled.inRequest("select 1 -- a line ends here\r from app.person")).toBe(
      "select 1 -- a line ends here\r from person",
    );
  });
});

it("a dedicated instance does not replace a name that is another schema's in PostgreSQL, because its own SQL means that one", () => {
  const text = 'select * from "public"."orders"';
  expect(dedicated.inRequest(text)).toBe(text);
  expect(dedicated.inBuild(text)).toBe('select * from acme."orders"');
  expect(pooled.inRequest(text)).toBe('select * from "orders"');
});

it("a build reads the physical schemas, whatever its kind", () => {
  for (const names of [pooled, dedicated]) {
    expect(names.inBuild('select "a" from "app"."person";')).toBe('select "a" from acme_app."person";');
    expect(names.inBuild('select "a" from "elsewhere"."things";')).toBe(
      'select "a" from "elsewhere"."things";',
    );
  }
});

it("a physical name equal to the logical one is one tenant's of many: a pooled instance contains none of them", () => {
  const alike = { kind: "pooled", schemas: [{ logical: "app", physical: "app" }] } as const;
  const names = new StatementNames(alike);
  names.learn([["app", "app", ["person"]]]);
  expect(names.inRequest("select * from app.person")).toBe("select * from person");
  const alone = new StatementNames({ ...alike, kind: "dedicated" });
  alone.learn([["app", "app", ["person"]]]);
  expect(alone.inRequest("select * from app.person")).toBe("select * from app.person");
});

it("all texts are translated, even if there are more than are kept", () => {
  for (let round = 0; round < 2; round += 1) {
    for (let index = 0; index < 500; index += 1) {
      expect(pooled.inRequest(`select ${index} from app.person`)).toBe(`select ${index} from person`);
    }
  }
});

it("an answer without object names fails the build", () => {
  expect(() => namesOf("pooled", null)).toThrow(/lacks the object names/);
});

describe("what a pooled instance leaves out", () => {
  const leftOut = [
    { kind: "function", oid: "1", schema: "acme_app", name: "find_pets", reason: "find_pets is hidden" },
    { kind: "type", oid: "2", schema: "public", name: "country", reason: "country is hidden" },
  ] as const;
  const leaving = (): StatementNames => {
    const names = new StatementNames({ kind: "pooled", schemas, leftOut });
    names.learn(objects);
    return names;
  };

  it.each([
    ["by its schema", "select app.find_pets(1)", "find_pets"],
    ["by its schema, in quotes", 'select "app"."find_pets"(1)', "find_pets"],
    ["by the name that a build gives it", 'select "pg_rowhouse_left_out"."find_pets"(1)', "find_pets"],
    ["as a type", "select $1::pg_rowhouse_left_out.country", "country"],
  ])("is named by no statement that is sent: %s", (_, text, name) => {
    const names = leaving();
    expect(names.inRequest("select * from app.person")).toBe("select * from person");
    const refusal = expect.objectContaining({
      code: "BUILD_NOT_SHAREABLE",
      message: expect.stringMatching(`^${name} is hidden`),
    });
    expect(() => names.inRequest(text)).toThrow(refusal);
    // The next request is the first that the host can run again.
    expect(() => names.inRequest("select 1")).toThrow(refusal);
  });

  it.each([
    ["another's of its name", 'select "Odd one".find_pets(1)'],
    ["a literal", "select 'app.find_pets()', 'pg_rowhouse_left_out.find_pets'"],
    ["a column", "select person.find_pets from person"],
  ])("is not taken for %s", (_, text) => {
    expect(leaving().inRequest(text)).toBe(text);
  });
});
