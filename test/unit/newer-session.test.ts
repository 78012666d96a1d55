import { expect, it } from "vitest";
import { NewerSession } from "../../src/shared/connect/newer-session.ts";

const standbyState = { standby: true, readOnly: true };
const primaryState = { standby: false, readOnly: false };

/** One whose connections find what `state` says, or nothing. */
function newerSession() {
  const seen = { connections: 0, served: 0, changes: [] as (string | null)[], now: 0 };
  let state: typeof primaryState | null = primaryState;
  const session = new NewerSession({
    connect: async () => {
      seen.connections += 1;
      if (state === null) throw new Error("nobody there");
      const rows = [state];
      return { query: async () => ({ rows }), end: async () => undefined };
    },
    serves: ({ readOnly }) => !readOnly,
    onServes: () => {
      seen.served += 1;
    },
    onChange: (reason) => void seen.changes.push(reason),
    standsMs: 1_000,
    now: () => seen.now,
  });
  return {
    seen,
    session,
    set: (next: typeof primaryState | null) => {
      state = next;
    },
  };
}

it("concurrent questions share one connection", async () => {
  const { seen, session } = newerSession();
  expect(await Promise.all([session.ask(), session.ask(), session.ask()])).toEqual([true, true, true]);
  expect(seen).toMatchObject({ connections: 1, served: 1, changes: [] });
});

it("a negative answer stands for a while, and is reported once", async () => {
  const { seen, session, set } = newerSession();
  set(standbyState);
  expect([await session.ask(), await session.ask(), await session.ask()]).toEqual([false, false, false]);
  expect(seen).toMatchObject({ connections: 1, served: 0, changes: ["the server is a standby"] });
  seen.now = 1_000;
  expect(await session.ask()).toBe(false);
  expect(seen).toMatchObject({ connections: 2, changes: ["the server is a standby"] });
  set(primaryState);
  expect(await session.ask()).toBe(false);
  seen.now = 2_000;
  expect(await session.ask()).toBe(true);
  expect(seen).toMatchObject({ served: 1, changes: ["the server is a standby", null] });
});

it("if no connection is to be had, none serves", async () => {
  const { seen, session, set } = newerSession();
  set(null);
  expect(await session.ask()).toBe(false);
  expect(seen.changes).toEqual(["no new connection can be opened: nobody there"]);
});

it("reading the state renews it after a while", async () => {
  const { seen, session, set } = newerSession();
  expect(session.lacking).toBe(false);
  set(standbyState);
  await session.ask();
  set(primaryState);
  seen.now = 4_000;
  expect(session.lacking).toBe(true);
  expect(seen.connections).toBe(1);
  seen.now = 6_000;
  expect(session.lacking).toBe(true);
  await session.close();
  expect(session.lacking).toBe(false);
  expect(seen.connections).toBe(2);
});
