import { describe, expect, it } from "vitest";
import type { Decision } from "../../src/decisions/decision.ts";
import { LockBackoff } from "../../src/decisions/lock-backoff.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";

const tenantOf = (id: string, schema = id): Tenant =>
  parseTenant({ id, schemas: { app: schema } }, { database: "main", databases: ["main"] });

/** The decision, or what deciding throws. */
async function decisionOrError(pauses: LockBackoff, tenant: Tenant): Promise<unknown> {
  try {
    return await pauses.decide(tenant);
  } catch (error) {
    return error;
  }
}

/** Decides nothing but how it fails. */
function failing(error: () => Error) {
  const asked: string[] = [];
  const forgotten: string[] = [];
  let nowMs = 0;
  const pauses = new LockBackoff({
    decisions: {
      decide: async ({ id }): Promise<Decision> => {
        asked.push(id);
        throw error();
      },
      peek: () => undefined,
      verify: () => Promise.reject(error()),
      forget: (id) => forgotten.push(id),
    },
    clock: { now: () => nowMs },
  });
  const ask = (tenant: Tenant) => decisionOrError(pauses, tenant);
  return { asked, ask, pauses, forgotten, pass: (ms: number) => (nowMs += ms) };
}

describe("the pauses for a locked tenant", () => {
  it("grow to ten seconds, and are forgotten a minute after the last", async () => {
    const { asked, ask, pass } = failing(() => new HostError("LOCK_TIMEOUT", "locked"));
    const tenant = tenantOf("a");
    for (const seconds of [1, 2, 4, 8, 10, 10]) {
      expect(await ask(tenant)).toMatchObject({ code: "LOCK_TIMEOUT", retryAfterSeconds: seconds });
      const { length } = asked;
      pass(seconds * 1_000 - 1);
      expect(await ask(tenant)).toMatchObject({ code: "LOCK_TIMEOUT", retryAfterSeconds: 0.001 });
      expect(asked).toHaveLength(length);
      pass(1);
    }
    pass(60_000);
    expect(await ask(tenant)).toMatchObject({ retryAfterSeconds: 1 });
  });

  it("apply to no other tenant, and to no other record of this one", async () => {
    const { asked, ask } = failing(() => new HostError("LOCK_TIMEOUT", "locked"));
    for (const tenant of [tenantOf("a"), tenantOf("b"), tenantOf("a", "moved")]) await ask(tenant);
    expect(asked).toEqual(["a", "b", "a"]);
  });

  it("also apply if its build meets the lock, and name nobody", async () => {
    const { asked, ask, pauses, forgotten } = failing(
      () => new HostError("LOCK_TIMEOUT", "tenant a is locked"),
    );
    const tenant = tenantOf("a");
    const decision = { tenant } as Decision;
    const error = await pauses.verify(decision).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "LOCK_TIMEOUT", retryAfterSeconds: 1 });
    expect(error).toHaveProperty("publicText", "The tenant's schema is locked by a change in progress.");
    expect(forgotten).toEqual(["a"]);
    expect(await ask(tenant)).toMatchObject({ code: "LOCK_TIMEOUT" });
    expect(asked).toEqual([]);
  });

  it("follow no other failure", async () => {
    const { asked, ask } = failing(() => new HostError("DATABASE_UNREACHABLE"));
    const tenant = tenantOf("a");
    for (let round = 0; round < 3; round += 1)
      expect(await ask(tenant)).toMatchObject({ code: "DATABASE_UNREACHABLE" });
    expect(asked).toHaveLength(3);
  });

  it("end in an answer about the requested record, not about another that was requested first", async () => {
    let nowMs = 0;
    let locked = true;
    const gate = Promise.withResolvers<void>();
    const pauses = new LockBackoff({
      decisions: {
        decide: async (tenant): Promise<Decision> => {
          if (locked) throw new HostError("LOCK_TIMEOUT", "locked");
          await gate.promise;
          return { tenant } as Decision;
        },
        peek: () => undefined,
        verify: async () => true,
        forget: () => undefined,
      },
      clock: { now: () => nowMs },
    });
    const [old, moved] = [tenantOf("a", "old"), tenantOf("a", "moved")];
    await decisionOrError(pauses, old);
    nowMs += 2_000;
    locked = false;
    const first = pauses.decide(old);
    locked = true;
    await decisionOrError(pauses, moved);
    nowMs += 2_000;
    locked = false;
    const second = pauses.decide(moved);
    gate.resolve();
    expect((await first).tenant).toBe(old);
    expect((await second).tenant).toBe(moved);
  });

  it("end one after the other, and requests beyond ten waiting ones are refused", async () => {
    const gate = Promise.withResolvers<never>();
    gate.promise.catch(() => undefined);
    let nowMs = 0;
    let asked = 0;
    let locked = true;
    const pauses = new LockBackoff({
      decisions: {
        decide: (): Promise<Decision> => {
          if (locked) return Promise.reject(new HostError("LOCK_TIMEOUT", "locked"));
          asked += 1;
          return gate.promise;
        },
        peek: () => undefined,
        verify: async () => true,
        forget: () => undefined,
      },
      clock: { now: () => nowMs },
    });
    const tenants = Array.from({ length: 13 }, (_, index) => tenantOf(`t${index}`));
    await Promise.allSettled(tenants.map((tenant) => pauses.decide(tenant)));
    nowMs += 1_000;
    locked = false;
    const [running, ...others] = tenants.map((tenant) => pauses.decide(tenant));
    await expect(others.pop()).rejects.toMatchObject({ code: "LOCK_TIMEOUT" });
    await expect(others.pop()).rejects.toMatchObject({ code: "LOCK_TIMEOUT" });
    expect(asked).toBe(1);
    gate.reject(new Error("over"));
    await expect(running).rejects.toThrow("over");
    for (const other of others) await expect(other).rejects.toThrow("over");
    expect(asked).toBe(11);
  });
});
