/**
 * Which request a cell's thread is given next: few at a time, and the tenants in turn.
 *
 * A thread runs what it has in the order in which it came, and nothing stops a request that computes. So what one tenant asks for
 * waits here, in the front, where others can go first: deficit round robin (Shreedhar and Varghese, 1995) over the tenants, by the
 * time that their requests have kept the thread busy. The thread reports that time, so a turn is paid for afterwards.
 *
 * A request leaves the queue's books when it is answered, or earlier, when the thread says that it is waiting for something else
 * than the thread (`parked`): a slow query costs its tenant no turns. The thread says so only while something waits here.
 */
import type { TenantId } from "../../shared/kernel/ids.ts";

/** A request, and its place in the queue's books, which the queue alone writes. */
export abstract class Turn {
  readonly tenant: TenantId;
  /** What its body takes in the thread's heap, roughly; 0: next to nothing. */
  readonly bytes: number;
  phase: "waiting" | "running" | "parked" | "over" = "waiting";
  /** The thread's number of it, once it is running. */
  number = 0;
  /** Whether its tenant's requests took long when it started. */
  heavy = false;

  constructor(tenant: TenantId, bytes: number) {
    this.tenant = tenant;
    this.bytes = bytes;
  }

  /** Sends it, and gives the number under which the thread knows it. `isLight`: its tenant's requests are known to take little. */
  abstract start(isLight: boolean): number;
}

export interface FairQueueLimits {
  /** Most bytes of bodies in the thread: of one tenant, and of all. One request is always let in. */
  readonly tenantBytes: number;
  readonly bytes: number;
}

interface Account {
  readonly tenant: TenantId;
  readonly waiting: Turn[];
  /** Milliseconds of the thread that it may still use before others have had their turn; negative where it has used more. */
  deficitMs: number;
  /** When the deficit was last brought up to date. */
  deficitAtMs: number;
  /** Most requests that it may have running at a time. */
  window: number;
  /** What a request of the tenant's takes of the thread, pessimistically. */
  estimateMs: number;
  running: number;
  /** None that is heavy starts. */
  held: boolean;
  inThread: number;
  bytes: number;
  /** Not yet shared out over answers. */
  spentMs: number;
  answered: number;
  /** Since the last sample. */
  sampleMs: number;
  entered: number;
  lastMs: number;
}

/** What a tenant did to a cell's thread since the sample before. */
export interface TenantUsage {
  readonly tenant: TenantId;
  readonly busyMs: number;
  readonly requests: number;
}

/** What a tenant may use in a round. */
const quantumMs = 5;
/** Most time that one tenant's requests in the thread are expected to take: what others wait for behind them. */
const windowMs = 24;
const widestWindow = 16;
/** Of a tenant that nothing is known of: its first request may be the one that takes seconds. */
const firstWindow = 1;
/** Requests estimated below this may run interleaved in one turn of the event loop: sharing warm code saves a seventh of the thread's CPU. */
const lightMs = 5;
/** From here on only one such request is in the thread, whoever sends it. */
const heavyMs = 20;
/** However long such a request took: the longest that the next one waits for others' quick ones. */
const longestPutOffMs = 1_000;
/** Of all tenants. A request that is answered within a millisecond needs no more than this to keep the thread busy. */
const maxRunning = 64;
/** What an answer takes is remembered this well: after fourteen quick ones a slow one is forgotten. */
const memory = 0.8;
/** A deficit is forgiven at this rate: a tenant may use half of a thread and owe nothing. */
const forgiveness = 0.5;
/** How long nothing is forgotten of a tenant that has gone quiet. */
const forgetAfterMs = 30_000;

export class FairQueue {
  readonly #limits: FairQueueLimits;
  readonly #clock: { now(): number };
  readonly #accounts = new Map<string, Account>();
  /** Those with something waiting, in the order of their turns. */
  readonly #ring = new Map<TenantId, Account>();
  /** Running and not parked, in the order of their numbers. */
  readonly #running = new Map<number, Turn>();
  readonly #touched = new Set<Account>();
  #heavy = 0;
  #heavyEndedMs = 0;
  /** How long the next one may be put off behind it. */
  #putOffMs = 0;
  #bytes = 0;
  #waiting = 0;

  constructor(limits: FairQueueLimits, clock: { now(): number } = performance) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Requests that are not with the thread yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Starts `turn`, at once or when its time has come. Each is to be given to `leave` once. */
  enter(turn: Turn): void {
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
    // A heavy one never goes ahead of those that wait: whose turn it is, the ring knows.
    if (isHeavy(account)) this.#pump();
  }

  /** The request was answered, or never will be. One that still waits is not started. */
  leave(turn: Turn): void {
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

  /** The thread has taken up everything to the number `upTo`: what is not answered waits for something else. */
  park(upTo: number): void {
    for (const [number, turn] of this.#running) {
      if (number > upTo) break;
      this.#rest(this.#account(turn.tenant), turn);
      turn.phase = "parked";
    }
  }

  /** `tenant` has kept the thread busy for `ms`. Of one that has asked for nothing of late nothing is kept. */
  charge(tenant: string, ms: number): void {
    const account = this.#accounts.get(tenant);
    if (account === undefined) return;
    this.#forgive(account);
    account.deficitMs -= ms;
    account.spentMs += ms;
    account.sampleMs += ms;
  }

  /** To be called when all of a message of the thread's has been taken note of: works out what requests take, and starts others. */
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

  /** Starts no heavy request of `tenant`'s until `resume`; its quick ones go on. */
  hold(tenant: TenantId): void {
    this.#account(tenant).held = true;
  }

  resume(tenant: TenantId): void {
    const account = this.#accounts.get(tenant);
    if (account === undefined) return;
    account.held = false;
    this.#pump();
  }

  /** What each tenant did since the last call; forgets those that have been quiet for long. */
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

  /** Takes back what still waits of `tenant`'s, which will not be started here. */
  withdraw(tenant: TenantId): readonly Turn[] {
    const account = this.#accounts.get(tenant);
    if (account === undefined || account.waiting.length === 0) return [];
    const turns = account.waiting.splice(0);
    this.#waiting -= turns.length;
    this.#retire(account);
    for (const turn of turns) turn.phase = "over";
    return turns;
  }

  /** The same of all tenants. */
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

  /** Whether the thread has room for it, as far as it is not heavy. */
  #fits(account: Account, { bytes }: Turn): boolean {
    if (this.#running.size >= maxRunning || account.running >= account.window) return false;
    // What takes next to nothing is kept waiting by nobody's large bodies.
    if (bytes === 0 || this.#bytes === 0) return true;
    if (account.inThread > 0 && account.bytes + bytes > this.#limits.tenantBytes) return false;
    return this.#bytes + bytes <= this.#limits.bytes;
  }

  /**
   * Whether a heavy request of `account`'s is to wait. One is in the thread at a time, and what others have there ends before the next: a
   * request that waits for PostgreSQL between two heavy ones would wait for both. But a stream of quick requests puts the next one off for as
   * long as the last one took, so it gets half of the thread, not all of it. It is the same for all: a shorter one has no advantage.
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

  /** It keeps the thread busy no longer. */
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
      // To the end of the ring, or out of it.
      this.#retire(account);
      if (account.waiting.length > 0) this.#ring.set(account.tenant, account);
      this.#start(account, turn);
    }
  }

  #retire(account: Account): void {
    this.#forgive(account);
    this.#ring.delete(account.tenant);
  }

  /** Whose turn it is; undefined where nobody who waits may start. Rounds in which all are in debt are skipped in one go. */
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

  /** While others wait beside it, a tenant's debts are settled by rounds alone. */
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

/** False while nothing is known of the tenant. */
function isLight({ estimateMs }: Account): boolean {
  return estimateMs > 0 && estimateMs < lightMs;
}
