/** How long each tenant keeps this thread busy. */
import type { BusyTimes } from "../src/shared/protocol/messages.ts";

/** A message to the front costs a hundredth of this. */
const longMs = 2;

interface Account {
  readonly tenant: string;
  busyMs: number;
}

/** Tenants known at a time, beyond which all are forgotten that have nothing to tell. */
const maxAccounts = 1_000;

/**
 * Between two turns of the event loop code runs for whoever was last entered: a request that begins, or a connection whose rows have come.
 * It is the time on the clock, not the CPU's: `process.threadCpuUsage` is a system call, and what preempts one tenant preempts all.
 */
export class CpuMeter {
  readonly #onLong: () => void;
  readonly #accounts = new Map<string, Account>();
  /** Those with time that has not been told. */
  #busy: Account[] = [];
  #isLong = false;
  #current: Account | null = null;
  /** Whose the interleaved requests are, one entry per request; empty while a single one runs. */
  #together: Account[] = [];
  #isGathering = false;
  #sinceMs = 0;
  #watching = false;

  /** `onLong` is called behind code that ran for so long that it matters who is next. */
  constructor(onLong: () => void) {
    this.#onLong = onLong;
  }

  /** From now on the thread runs for `tenant`, at most until the event loop's next turn. */
  enter(tenant: string): void {
    const account = this.#accounts.get(tenant) ?? this.#newAccount(tenant);
    if (this.#isGathering) this.#together.push(account);
    else if (account !== this.#current) {
      this.#turnTo(account);
      if (this.#together.length > 0) this.#together = [];
    }
    if (!this.#watching) this.#watch();
  }

  /** From now on the thread runs for all that enter during `begin`: their time is split evenly, by requests. */
  share(begin: () => void): void {
    this.#turnTo(null);
    this.#together = [];
    this.#isGathering = true;
    begin();
    this.#isGathering = false;
  }

  #newAccount(tenant: string): Account {
    const account = { tenant, busyMs: 0 };
    this.#accounts.set(tenant, account);
    return account;
  }

  #turnTo(account: Account | null): void {
    const nowMs = performance.now();
    this.#add(nowMs);
    this.#current = account;
    this.#sinceMs = nowMs;
  }

  #watch(): void {
    this.#watching = true;
    // Behind all that the loop finds ready now. An immediate keeps it from sleeping, so no idle time is counted.
    setImmediate(this.#turned);
  }

  readonly #turned = (): void => {
    this.#watching = false;
    this.#turnTo(null);
    if (this.#together.length > 0) this.#together = [];
    if (!this.#isLong) return;
    this.#isLong = false;
    this.#onLong();
  };

  /** What came together since the last time. */
  take(): BusyTimes {
    if (this.#current !== null || this.#together.length > 0) this.#turnTo(this.#current);
    if (this.#busy.length === 0) return nothing;
    const times: (string | number)[] = [];
    for (const account of this.#busy) {
      times.push(account.tenant, account.busyMs);
      account.busyMs = 0;
    }
    this.#busy = [];
    if (this.#accounts.size > maxAccounts) this.#accounts.clear();
    return times;
  }

  #add(nowMs: number): void {
    const ms = nowMs - this.#sinceMs;
    const shares = this.#together.length;
    if (shares > 0) {
      for (const account of this.#together) this.#charge(account, ms / shares);
    } else if (this.#current === null) return;
    else this.#charge(this.#current, ms);
    this.#isLong ||= ms >= longMs;
  }

  #charge(account: Account, ms: number): void {
    if (account.busyMs === 0) this.#busy.push(account);
    account.busyMs += ms;
  }
}

const nothing: BusyTimes = [];
