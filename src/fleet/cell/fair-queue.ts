/**
 * Decides which request a cell's thread receives next: few at a time, and the tenants in turn.
 *
 * A thread runs its requests in order of arrival, and nothing can interrupt a request that computes. Requests
 * therefore wait here, in the front, where other tenants can go first: deficit round robin (Shreedhar and
 * Varghese, 1995) over the tenants, by the time that their requests kept the thread busy. The thread reports
 * that time, so a turn is charged afterwards.
 *
 * A request leaves the queue's books when it is answered, or earlier when the thread reports that it is
 * waiting for something other than the thread (`parked`): a slow query costs its tenant no turns. The thread
 * reports this only while something waits here.
 */
import type { TenantId } from "../../shared/kernel/ids.ts";

/** A request and its state in the queue; only the queue changes that state. */
export abstract class Turn {
  readonly tenant: TenantId;
  /** Approximate size of its body in the thread's heap; 0: negligible. */
  readonly bytes: number;
  phase: "waiting" | "running" | "parked" | "over" = "waiting";
  /** The number under which the thread knows it, once it is running. */
  number = 0;
  /** Whether its tenant's requests were estimated as heavy when it started. */
  heavy = false;

  constructor(tenant: TenantId, bytes: number) {
    this.tenant = tenant;
    this.bytes = bytes;
  }

  /**
   * Sends it to the thread; returns the number under which the thread knows it. `isLight`: its tenant's
   * requests are known to be cheap.
   */
  abstract start(isLight: boolean): number;
}

export interface FairQueueLimits {
  /** Maximum bytes of bodies in the thread, per tenant and in total. One request is always admitted. */
  readonly tenantBytes: number;
  readonly bytes: number;
}

interface Account {
  readonly tenant: TenantId;
  readonly waiting: Turn[];
  /** Milliseconds of thread time left before other tenants get their turn; negative if it has used more. */
  deficitMs: number;
  /** When the deficit was last brought up to date. */
  deficitAtMs: number;
  /** Maximum number of its requests that run at a time. */
  window: number;
  /** Pessimistic estimate of the thread time that a request of the tenant takes. */
  estimateMs: number;
  running: number;
  /** While set, none of its heavy requests starts. */
  held: boolean;
  inThread: number;
  bytes: number;
  /** Charged time that has not yet been attributed to answers. */
  spentMs: number;
  answered: number;
  /** Thread time since the last sample. */
  sampleMs: number;
  entered: number;
  lastMs: number;
}

/** How much of a cell's thread a tenant used since the previous sample. */
export interface TenantUsage {
  readonly tenant: TenantId;
  readonly busyMs: number;
  readonly requests: number;
}

/** Thread time that a tenant may use per round. */
const quantumMs = 5;
/** Maximum expected thread time of one tenant's requests in the thread, which others have to wait behind. */
const windowMs = 24;
const widestWindow = 16;
/** Window of a tenant about which nothing is known yet: its first request may be the one that takes seconds. */
const firstWindow = 1;
/**
 * Requests estimated below this may be interleaved in one turn of the event loop: sharing warm code saves a
 * seventh of the thread's CPU.
 */
const lightMs = 5;
/** From this estimate on a request is heavy: only one is in the thread at a time, whoever sends it. */
const heavyMs = 20;
/**
 * Maximum time that a heavy request is put off for other tenants' quick ones, however long the last heavy one
 * took.
 */
const longestPutOffMs = 1_000;
/** Limit over all tenants. With requests answered within a millisecond this is enough to keep the thread busy. */
const maxRunning = 64;
/** Decay of a tenant's cost estimate: after fourteen quick answers a slow one is forgotten. */
const memory = 0.8;
/** Rate at which debt is forgiven: a tenant may use half of a thread without owing anything. */
const forgiveness = 0.5;
/** How long the account of an inactive tenant is kept. */
const forgetAfterMs = 30_000;

export class FairQueue {
  readonly #limits: FairQueueLimits;
  readonly #clock: { now(): number };
  readonly #accounts = new Map<string, Account>();
  /** Accounts with waiting requests, in the order of their turns. */
  readonly #ring = new Map<TenantId, Account>();
  /** Requests that are running and not parked, in the order of their numbers. */
  readonly #running = new Map<number, Turn>();
  readonly #touched = new Set<Account>();
  #heavy = 0;
  #heavyEndedMs = 0;
  /** How long the next heavy request may be put off after the last one ended. */
  #putOffMs = 0;
  #bytes = 0;
  #waiting = 0;

  constructor(limits: FairQueueLimits, clock: { now(): number } = performance) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Requests that have not been sent to the thread yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Starts `turn`, now or when it is its turn. Call `release` once for each. */
  acquire(turn: Turn): void {
    const account = this.#account(turn.tenant);
    account.entered += 1;
    const isFirst = account.waiting.length === 0;
    if (isFirst && !isHeavy(account) && this.#fits(account, turn)) {
      this.#start(account, turn);
      return;
    }
    if (isFirst) {
      this.#forgive(account);
      this.#ring.set(turn.tenant, account);
    }
    account.waiting.push(turn);
    this.#waiting += 1;
    // A heavy request never overtakes those that wait: the ring decides whose turn it is.
    if (isHeavy(account)) this.#pump();
  }

  /** Call when the request is answered, or never will be. A request that still waits is not started. */
  release(turn: Turn): void {
    const account = this.#account(turn.tenant);
    switch (turn.phase) {
      case "waiting":
        account.waiting.splice(account.waiting.indexOf(turn), 1);
        this.#waiting -= 1;
        if (account.waiting.length === 0) this.#retire(account);
        break;
      case "running":
        this.#rest(account, turn);
        this.#depart(account, turn);
        break;
      case "parked":
        this.#depart(account, turn);
        break;
      case "over":
        return;
    }
    turn.phase = "over";
  }

  /**
   * The thread has begun everything up to the number `upTo`: what is not answered waits for something other
   * than the thread.
   */
  park(upTo: number): void {
    for (const [number, turn] of this.#running) {
      if (number > upTo) break;
      this.#rest(this.#account(turn.tenant), turn);
      turn.phase = "parked";
    }
  }

  /** Charges `tenant` for keeping the thread busy for `ms`. Ignored if the tenant's account has been forgotten. */
  charge(tenant: string, ms: number): void {
    const account = this.#accounts.get(tenant);
    if (account === undefined) return;
    this.#forgive(account);
    account.deficitMs -= ms;
    account.spentMs += ms;
    account.sampleMs += ms;
  }

  /**
   * Call once a message of the thread has been processed completely: updates the cost estimates and starts
   * waiting requests.
   */
  settle(): void {
    for (const account of this.#touched) {
      const cost = account.spentMs / account.answered;
      account.estimateMs = Math.max(cost, account.estimateMs * memory);
      account.spentMs = 0;
      account.answered = 0;
      const fitting = Math.floor(windowMs / Math.max(account.estimateMs, 0.001));
      account.window = Math.max(1, Math.min(widestWindow, fitting, account.window * 2));
    }
    this.#touched.clear();
    this.#pump();
  }

  /** Starts no request of `tenant` until `resume` while its estimate is heavy: which requests are quick is not known per request. */
  pause(tenant: TenantId): void {
    this.#account(tenant).held = true;
  }

  resume(tenant: TenantId): void {
    const account = this.#accounts.get(tenant);
    if (account === undefined) return;
    account.held = false;
    this.#pump();
  }

  /** What each tenant used since the last call; forgets accounts that have been inactive for long. */
  sample(): readonly TenantUsage[] {
    const nowMs = this.#clock.now();
    const usage: TenantUsage[] = [];
    for (const account of this.#accounts.values()) {
      const { tenant } = account;
      if (account.sampleMs > 0 || account.entered > 0) {
        usage.push({ tenant, busyMs: account.sampleMs, requests: account.entered });
        account.sampleMs = 0;
        account.entered = 0;
        account.lastMs = nowMs;
      } else if (
        account.inThread === 0 &&
        !account.held &&
        account.waiting.length === 0 &&
        nowMs - account.lastMs > forgetAfterMs
      ) {
        this.#accounts.delete(tenant);
      }
    }
    return usage;
  }

  /** Removes and returns the waiting requests of `tenant`, which will not be started here. */
  withdraw(tenant: TenantId): readonly Turn[] {
    const account = this.#accounts.get(tenant);
    if (account === undefined || account.waiting.length === 0) return [];
    const turns = account.waiting.splice(0);
    this.#waiting -= turns.length;
    this.#retire(account);
    for (const turn of turns) turn.phase = "over";
    return turns;
  }

  /** Removes and returns the waiting requests of all tenants. */
  drain(): readonly Turn[] {
    return [...this.#ring.keys()].flatMap((tenant) => this.withdraw(tenant));
  }

  #account(tenant: TenantId): Account {
    const known = this.#accounts.get(tenant);
    if (known !== undefined) return known;
    const nowMs = this.#clock.now();
    const account: Account = {
      tenant,
      waiting: [],
      deficitMs: quantumMs,
      deficitAtMs: nowMs,
      window: firstWindow,
      estimateMs: 0,
      running: 0,
      held: false,
      inThread: 0,
      bytes: 0,
      spentMs: 0,
      answered: 0,
      sampleMs: 0,
      entered: 0,
      lastMs: nowMs,
    };
    this.#accounts.set(tenant, account);
    return account;
  }

  /** Whether the thread has room for the request, apart from the rules for heavy ones. */
  #fits(account: Account, { bytes }: Turn): boolean {
    if (this.#running.size >= maxRunning || account.running >= account.window) return false;
    // A request with a negligible body never waits for other requests' large bodies.
    if (bytes === 0 || this.#bytes === 0) return true;
    if (account.inThread > 0 && account.bytes + bytes > this.#limits.tenantBytes) return false;
    return this.#bytes + bytes <= this.#limits.bytes;
  }

  /**
   * Whether a heavy request of `account` has to wait. Only one is in the thread at a time, and other tenants'
   * requests in the thread end before the next starts: a request that waits for PostgreSQL between two heavy
   * ones would otherwise wait for both. But a stream of quick requests may put the next one off only for as
   * long as the last one took, so heavy requests get half of the thread. This applies to all of them equally:
   * a shorter one has no advantage.
   */
  #isPutOff({ running }: Account): boolean {
    if (this.#heavy > 0) return true;
    return this.#running.size > running && this.#clock.now() - this.#heavyEndedMs < this.#putOffMs;
  }

  #start(account: Account, turn: Turn): void {
    const { bytes } = turn;
    turn.phase = "running";
    turn.heavy = isHeavy(account);
    turn.number = turn.start(isLight(account));
    this.#running.set(turn.number, turn);
    if (turn.heavy) this.#heavy += 1;
    account.running += 1;
    account.inThread += 1;
    account.bytes += bytes;
    this.#bytes += bytes;
  }

  /** The request no longer keeps the thread busy. */
  #rest(account: Account, turn: Turn): void {
    this.#running.delete(turn.number);
    if (turn.heavy) {
      this.#heavy -= 1;
      this.#heavyEndedMs = this.#clock.now();
      this.#putOffMs = Math.min(account.estimateMs, longestPutOffMs);
    }
    account.running -= 1;
  }

  #depart(account: Account, { bytes }: Turn): void {
    account.inThread -= 1;
    account.bytes -= bytes;
    this.#bytes -= bytes;
    account.answered += 1;
    this.#touched.add(account);
  }

  #pump(): void {
    while (this.#ring.size > 0 && this.#running.size < maxRunning) {
      const account = this.#next();
      const turn = account?.waiting.shift();
      if (account === undefined || turn === undefined) return;
      this.#waiting -= 1;
      // Moves the account to the end of the ring, or removes it.
      this.#retire(account);
      if (account.waiting.length > 0) this.#ring.set(account.tenant, account);
      this.#start(account, turn);
    }
  }

  #retire(account: Account): void {
    this.#forgive(account);
    this.#ring.delete(account.tenant);
  }

  /**
   * The account whose turn it is; undefined if no waiting request may start. Rounds in which all are in debt
   * are skipped at once.
   */
  #next(): Account | undefined {
    for (;;) {
      const indebted: Account[] = [];
      for (const account of this.#ring.values()) {
        const [first] = account.waiting;
        if (first === undefined || !this.#fits(account, first)) continue;
        if (isHeavy(account) && (account.held || this.#isPutOff(account))) continue;
        if (account.deficitMs > 0) return account;
        indebted.push(account);
      }
      if (indebted.length === 0) return undefined;
      const rounds = Math.min(...indebted.map(({ deficitMs }) => Math.floor(-deficitMs / quantumMs) + 1));
      for (const account of indebted) {
        account.deficitMs = Math.min(quantumMs, account.deficitMs + rounds * quantumMs);
      }
    }
  }

  /** Forgives debt over time, but not while the tenant is in the ring, where only rounds settle it. */
  #forgive(account: Account): void {
    const nowMs = this.#clock.now();
    if (this.#ring.has(account.tenant)) {
      account.deficitAtMs = nowMs;
      return;
    }
    const regained = (nowMs - account.deficitAtMs) * forgiveness;
    account.deficitMs = Math.min(quantumMs, account.deficitMs + regained);
    account.deficitAtMs = nowMs;
  }
}

function isHeavy({ estimateMs }: Account): boolean {
  return estimateMs >= heavyMs;
}

/** False while nothing is known about the tenant. */
function isLight({ estimateMs }: Account): boolean {
  return estimateMs > 0 && estimateMs < lightMs;
}
