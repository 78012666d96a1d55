/** Measures how long each tenant keeps this thread busy. */
import type { BusyTimes } from "../src/shared/protocol/messages.ts";

/** A message to the front costs a hundredth of this. */
const longMs = 2;

interface Account {
  readonly tenant: string;
  busyMs: number;
}

/** The most tenants known at a time; beyond it, all are forgotten, after their times have been reported. */
const maxAccounts = 1_000;

/**
 * Between two turns of the event loop, code runs for the tenant entered last: by a request that begins, or by a connection whose
 * rows have arrived. Measures wall-clock time, because `process.threadCpuUsage` is a system call, and what preempts one tenant
 * preempts all.
 */
export class CpuMeter {
  readonly #onLong: () => void;
  readonly #accounts = new Map<string, Account>();
  /** Accounts with time that has not been reported. */
  #busy: Account[] = [];
  #isLong = false;
  #current: Account | null = null;
  /** The tenants of interleaved requests, one entry per request; empty while a single one runs. */
  #together: Account[] = [];
  #isGathering = false;
  #sinceMs = 0;
  #watching = false;

  /** `onLong` is called after code that ran so long that it matters who is next. */
  constructor(onLong: () => void) {
    this.#onLong = onLong;
  }

  /** From now on, time counts for `tenant`, at most until the event loop's next turn. */
  enter(tenant: string): void {
    const account = this.#accounts.get(tenant) ?? this.#newAccount(tenant);
    if (this.#isGathering) this.#together.push(account);
    else if (account !== this.#current) {
      this.#turnTo(account);
      if (this.#together.length > 0) this.#together = [];
    }
    if (!this.#watching) this.#watch();
  }

  /** From now on, time is split evenly among the requests that enter during `begin`. */
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
    // Runs after everything that the loop finds ready now. An immediate keeps the loop from sleeping, so idle time is not
    // counted.
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

  /** Returns and resets the times collected since the last call. */
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
