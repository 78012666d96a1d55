import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ChangesView, Looks, type LooksTarget } from "../../src/control/looks.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { Database } from "../../src/postgres/database.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installGuard, revisionOf } from "../support/guard-control.ts";

let server: TestDatabase;
const role = `looks_${process.pid}`;
const looking: Looks[] = [];
const open: Database[] = [];
let seen: Observation[] = [];

const withoutTriggers =
  "drop event trigger if exists rowhouse_ddl_command_end; drop event trigger if exists rowhouse_sql_drop";

beforeAll(async () => {
  server = await createDatabase("looks");
  await installGuard(server);
  await server.execute(`create role ${role} login password 'word'; grant usage on schema rowhouse to ${role};
    grant select on all tables in schema rowhouse to ${role};
    create schema shop; create table shop.item (id int primary key);
    create schema lib; create type lib.mood as enum ('calm'); ${withoutTriggers}`);
});

beforeEach(() => {
  seen = [];
});

afterEach(async () => {
  await Promise.all(looking.splice(0).map((each) => each.close()));
  await Promise.all(open.splice(0).map((each) => each.close()));
});

afterAll(async () => {
  await server.execute(`drop owned by ${role}; drop role ${role}`);
  await server.drop();
});

interface Host {
  readonly looks: Looks;
  readonly revisions: ReadonlyMap<string, bigint>[];
  readonly changed: string[];
}

function host(url = server.url, more: { everyMs?: number; control?: boolean } = {}): Host {
  const database = new Database({
    name: "main",
    url,
    applicationName: "rowhouse:test",
    observe: () => {},
  });
  open.push(database);
  const revisions: ReadonlyMap<string, bigint>[] = [];
  const changed: string[] = [];
  const target: LooksTarget = {
    revisions: (_, all) => revisions.push(all),
    changed: (_, schemas) => changed.push(...schemas),
  };
  const looks = new Looks({
    database,
    control: true,
    eventTriggers: false,
    everyMs: 100,
    observe: (observation) => seen.push(observation),
    target,
    ...more,
  });
  looking.push(looks);
  looks.open();
  return { looks, revisions, changed };
}

const looked = (each: Host): Promise<ChangesView> =>
  expect
    .poll(() => each.looks.view.lookedAt, { timeout: 20_000 })
    .not.toBeNull()
    .then(() => each.looks.view);

const found = (): number[] =>
  seen.flatMap((each) => (each.kind === "look.found" && each.moved ? [each.schemas] : []));

describe("without event triggers", () => {
  it("a change by hand moves only its own schema's revision, once, however many hosts look", async () => {
    const hosts = [host(), host(), host()];
    for (const each of hosts)
      expect(await looked(each)).toMatchObject({ by: "looks", looksAt: "catalogue", moves: true });
    const [shop, lib] = [await revisionOf(server, "shop"), await revisionOf(server, "lib")];
    seen = [];
    await server.execute("alter table shop.item add column label text");
    await expect.poll(() => revisionOf(server, "shop"), { timeout: 20_000 }).not.toBe(shop);
    const moved = await revisionOf(server, "shop");
    for (const { revisions } of hosts) {
      // They too find it by looking: none of them listens here.
      await expect.poll(() => revisions.at(-1)?.get("shop"), { timeout: 20_000 }).toBe(BigInt(moved));
    }
    await server.execute("comment on type lib.mood is 'x'");
    await expect.poll(() => revisionOf(server, "lib"), { timeout: 20_000 }).not.toBe(lib);
    expect(await revisionOf(server, "shop")).toBe(moved);
    expect(found()).toEqual([1, 1]);
  });

  it("a schema that is created, dropped, or changed while no host ran is found", async () => {
    await server.execute("alter table shop.item add column unseen int");
    const before = await revisionOf(server, "shop");
    host();
    await expect.poll(() => revisionOf(server, "shop"), { timeout: 20_000 }).not.toBe(before);
    await server.execute("create schema fresh");
    await expect.poll(() => revisionOf(server, "fresh"), { timeout: 20_000 }).not.toBe("0");
    await server.execute("drop schema fresh");
    await expect.poll(() => revisionOf(server, "fresh"), { timeout: 20_000 }).toBe("0");
  });

  it("a host whose role may not move revisions finds changes for itself", async () => {
    const alone = host(server.urlAs(role, "word"));
    expect(await looked(alone)).toMatchObject({ by: "looks", looksAt: "catalogue", moves: false });
    // A schema seen for the first time may have changed since a decision was made.
    expect(alone.changed).toEqual(expect.arrayContaining(["shop", "lib"]));
    alone.changed.length = 0;
    const before = await revisionOf(server, "shop");
    await server.execute("alter table shop.item add column alone int");
    await expect.poll(() => alone.changed, { timeout: 20_000 }).toEqual(["shop"]);
    expect(await revisionOf(server, "shop")).toBe(before);
  });

  it("a host without a control schema finds changes for itself", async () => {
    const bare = await createDatabase("looks_bare");
    await bare.execute("create schema shop");
    const alone = host(bare.url, { control: false });
    expect(await looked(alone)).toMatchObject({ by: "looks", looksAt: "catalogue", moves: false });
    alone.changed.length = 0;
    await bare.execute("create table shop.item (id int)");
    await expect.poll(() => alone.changed, { timeout: 20_000 }).toEqual(["shop"]);
    await Promise.all(looking.splice(0).map((each) => each.close()));
    await Promise.all(open.splice(0).map((each) => each.close()));
    await bare.drop();
  });

  it("an operator in a schema of the search path never replaces PostgreSQL's own", async () => {
    await server.execute(`create schema hostile; create function hostile.trap(regclass, oid) returns boolean language plpgsql as
      $$ begin raise exception 'taken'; end $$;
      create operator hostile.= (leftarg = regclass, rightarg = oid, function = hostile.trap);
      alter role ${role} set search_path = hostile, pg_catalog; grant usage on schema hostile to ${role}`);
    const alone = host(server.urlAs(role, "word"));
    await looked(alone);
    expect(seen.filter(({ kind }) => kind === "look.failed")).toEqual([]);
    await server.execute(`alter role ${role} reset search_path; drop schema hostile cascade`);
  });
});

describe("with event triggers", () => {
  it("a host does not look until they are gone", async () => {
    await installGuard(server);
    const only = host();
    expect(await looked(only)).toMatchObject({ by: "events", looksAt: null });
    expect(only.revisions).toEqual([]);
    expect(seen).toEqual([]);
    await server.execute(withoutTriggers);
    await expect.poll(() => only.looks.view.by, { timeout: 20_000 }).toBe("looks");
  });
});

it("an outage is reported once, and looking resumes after it", async () => {
  const only = host();
  await looked(only);
  await server.execute("alter table rowhouse.last_look rename to hidden");
  await expect
    .poll(() => seen.filter(({ kind }) => kind === "look.failed"), { timeout: 20_000 })
    .toHaveLength(1);
  const stopped = only.looks.view.lookedAt;
  await server.execute("alter table rowhouse.hidden rename to last_look");
  await expect.poll(() => only.looks.view.lookedAt, { timeout: 20_000 }).not.toBe(stopped);
  expect(seen.filter(({ kind }) => kind === "look.failed")).toHaveLength(1);
});
