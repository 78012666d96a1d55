/** One worker thread with its heap, its requests and its termination. */

import { MessageChannel, type MessagePort } from "node:worker_threads";
import type { Observe, TerminationReason } from "../../observability/observation.ts";
import { codeOf, HostError, messageOf, unreachable } from "../../shared/kernel/errors.ts";
import type { CellId, TenantId } from "../../shared/kernel/ids.ts";
import { type CellPhase, cellStep } from "../../shared/kernel/phase.ts";
import type { BlueprintSpec } from "../../shared/model/blueprint-spec.ts";
import type {
  Answer,
  BuildReport,
  BusyTimes,
  CellMessage,
  CellSetup,
  CellTask,
  Reply,
  RequestTask,
} from "../../shared/protocol/messages.ts";
import { fromWireError } from "../../shared/protocol/wire-error.ts";
import { CellTurn, type Outcome } from "./cell-turn.ts";
import { Channel } from "./channel.ts";
import { FairQueue, type FairQueueLimits, type TenantUsage } from "./fair-queue.ts";
import { CellHeap } from "./heap.ts";
import { Slots } from "./request-slots.ts";
import { Thread } from "./thread.ts";
import { Utilization } from "./utilization.ts";

export interface CellOptions {
  readonly id: CellId;
  readonly setup: Omit<CellSetup, "cell" | "ledger">;
  readonly heapMb: number;
  readonly hardLimitMb: number;
  readonly v8LimitMb: number;
  readonly youngMb: number;
  readonly observe: Observe;
  /** Called once, when the thread has loaded its modules. */
  readonly onReady: () => void;
  /** Called once, when the thread is gone for any reason. */
  readonly onGone: (cell: Cell, reason: TerminationReason) => void;
  /** The thread's entry; overridden in tests of threads. */
  readonly entry?: URL;
}

/** Maximum number of concurrent requests in one cell; each has a byte in the ledger. */
const slotCount = 4096;

/** Requests per second from which a cell counts as busy. */
const busyFrom = 2;

/** The request never reached a thread: it may be sent to another cell. */
export class NotStarted extends HostError<"CELL_LOST"> {}

/** A parsed body takes several times its length, and bodies together must not fill the heap. */
function queueLimits(heapMb: number): FairQueueLimits {
  const heapBytes = heapMb * 2 ** 20;
  return { tenantBytes: heapBytes / 64, bytes: heapBytes / 16 };
}

export class Cell {
  readonly id: CellId;
  readonly heapMb: number;
  readonly hardLimitMb: number;
  readonly heap = new CellHeap();
  readonly utilization: Utilization;
  readonly applicationName: string;
  readonly #options: CellOptions;
  readonly #thread: Thread;
  readonly #channel: Channel;
  readonly #slots = new Slots(slotCount);
  readonly #queue: FairQueue;
  /** Requests that have not been sent to the thread yet, by slot. */
  readonly #queued = new Map<number, CellTurn>();
  readonly #gone = Promise.withResolvers<void>();
  /** Moving average that halves the weight of the past with each sample. */
  #requestsASecond = 0;
  /** Whether the thread has been told that requests wait here. */
  #isContended = false;
  #phase: CellPhase = "starting";
  #ending: TerminationReason | null = null;
  lastPongMs: number;
  connections = { total: 0, idle: 0, waiting: 0, reserve: 0 };
  /** Databases that refused writes as read-only, from the thread's last message. */
  readOnly: readonly string[] = [];

  constructor(options: CellOptions) {
    this.#options = options;
    this.id = options.id;
    this.heapMb = options.heapMb;
    this.hardLimitMb = options.hardLimitMb;
    this.lastPongMs = performance.now();
    this.applicationName = `${options.setup.applicationName}:${options.id}`;
    const { port1, port2 } = new MessageChannel();
    this.#queue = new FairQueue(queueLimits(options.heapMb));
    this.#channel = new Channel(
      port1,
      (message) => this.#receive(message),
      () => this.#queue.settle(),
    );
    const workerData: CellSetup = {
      ...options.setup,
      cell: options.id,
      applicationName: this.applicationName,
      ledger: this.#slots.ledger,
    };
    this.#thread = new Thread(
      { ...options, workerData },
      { failed: (error) => this.#lost(error), exited: () => this.#exited() },
    );
    this.utilization = new Utilization(this.#thread.worker);
    void this.#open(port2);
  }

  get phase(): CellPhase {
    return this.#phase;
  }

  set phase(to: CellPhase) {
    this.#phase = cellStep(this.#phase, to);
  }

  /** Resolves when the thread has exited. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  get inFlight(): number {
    return this.#slots.taken;
  }

  /** Builds an instance; throws the thread's error, or `CELL_LOST` if the thread ended first. */
  build(instance: number, spec: BlueprintSpec): Promise<BuildReport> {
    return this.#run<BuildReport>({ kind: "build", instance, spec });
  }

  async release(instance: number): Promise<void> {
    this.heap.outdate(instance);
    await this.#run<null>({ kind: "release", instance });
  }

  /**
   * Takes a slot for one request; throws `NO_CAPACITY` if none is free. The caller frees it when the request
   * is over.
   */
  acquireSlot(): number {
    return this.#slots.acquire();
  }

  releaseSlot(slot: number): void {
    this.#slots.release(slot);
  }

  /** Whether the request in `slot` may have committed something; valid until the slot is taken again. */
  mayHaveCommitted(slot: number): boolean {
    return this.#slots.marked(slot);
  }

  /** Number of requests that wait for their tenant's turn. */
  get queued(): number {
    return this.#queue.waiting;
  }

  /** Whether requests have been arriving continuously of late. */
  get isBusy(): boolean {
    return this.#requestsASecond >= busyFrom;
  }

  /** What each tenant used of the thread since the last call, `spanMs` ago. */
  sampleUsage(spanMs: number): readonly TenantUsage[] {
    const usage = this.#queue.sample();
    const asked = usage.reduce((sum, { requests }) => sum + requests, 0);
    const nowASecond = (asked * 1_000) / Math.max(1, spanMs);
    this.#requestsASecond += (nowASecond - this.#requestsASecond) / 2;
    return usage;
  }

  /**
   * The answer to `task`, which is sent to the thread when it is `tenant`'s turn. Rejects with the thread's
   * error, with `CANCELLED` if it was cancelled before it was sent, with `CELL_LOST` if the thread ended
   * without an answer, or with `NotStarted` if it was never sent.
   */
  request(task: RequestTask, tenant: TenantId): Promise<Answer> {
    if (this.#ending !== null) return Promise.reject(this.#notStarted());
    return new Promise((resolve, reject) => {
      const turn = new CellTurn(task, tenant, this.#outcome, { resolve, reject });
      this.#queue.acquire(turn);
      if (turn.phase !== "waiting") return;
      this.#queued.set(task.slot, turn);
      if (!this.#isContended) this.#contend();
    });
  }

  readonly #outcome: Outcome = {
    started: (turn, isLight) => {
      this.#queued.delete(turn.task.slot);
      return this.#channel.ask(turn.task, turn, isLight);
    },
    answered: (turn) => this.#queue.release(turn),
    failed: (turn) => {
      this.#queue.release(turn);
      // No message of the thread needs to follow, and a request that waited behind this one may fit now.
      this.#queue.settle();
    },
  };

  /** Asks the thread to report which requests wait for something other than the thread. */
  #contend(): void {
    this.#isContended = true;
    this.#channel.tell({ kind: "contended" });
  }

  /** Starts no more requests of `tenant` while these are estimated to be heavy, until the returned function is called. */
  pause(tenant: TenantId): () => void {
    this.#queue.pause(tenant);
    return () => this.#queue.resume(tenant);
  }

  /** Rejects the waiting requests of `tenant` with `NotStarted`, so that they are sent elsewhere. */
  dismiss(tenant: TenantId): void {
    this.#queue.withdraw(tenant);
    this.#queue.settle();
    this.#turnAway((turn) => turn.tenant === tenant);
  }

  /**
   * Stops the request in `slot`. It either waits here or was sent before on the same port, so the thread
   * knows it or has finished it.
   */
  cancel(slot: number): void {
    const queued = this.#queued.get(slot);
    if (queued === undefined) {
      this.#channel.cancel(slot);
      return;
    }
    this.#queued.delete(slot);
    queued.reject(new HostError("CANCELLED"));
  }

  ping(): void {
    if (this.#queue.waiting === 0) this.#isContended = false;
    this.#channel.tell({ kind: "ping", contended: this.#isContended });
  }

  /** Requests a full collection in the thread, unless one is under way. */
  collect(nowMs: number): void {
    const sequence = this.heap.askForCollection(nowMs);
    if (sequence !== undefined) this.#channel.tell({ kind: "collect", sequence });
  }

  /** Reads the heap size in MB, garbage included. */
  measure(): Promise<number> {
    return this.heap.measure(this.#thread.worker);
  }

  /** Ends the thread; resolves when it has exited. Requests in flight fail with `CELL_LOST`. */
  async terminate(reason: TerminationReason): Promise<void> {
    if (this.#ending === null) {
      this.#ending = reason;
      if (this.#phase !== "gone") this.phase = "terminating";
      await this.#thread.end().catch((error: Error) => this.#report(error));
    }
    await this.#gone.promise;
  }

  async #open(port: MessagePort): Promise<void> {
    const startedMs = performance.now();
    try {
      await this.#run<null>({ kind: "open", port }, [port]);
      if (this.#phase !== "starting") return;
      this.phase = "spare";
      this.#options.observe({ kind: "cell.started", cell: this.id, startMs: performance.now() - startedMs });
      this.#options.onReady();
    } catch (error) {
      // Ended while starting, for example at shutdown: its cause is already known.
      if (this.#ending === null) this.#report(error);
      await this.terminate("start-failed");
    }
  }

  async #run<Value>(task: CellTask, transferList: (ArrayBuffer | MessagePort)[] = []): Promise<Value> {
    if (this.#ending !== null) throw this.#lostError(this.#ending);
    let reply: Reply<Value>;
    try {
      reply = await this.#thread.run<Value>(task, transferList);
    } catch (error) {
      // It may not have stopped yet: until its exit it may still mark the ledger and commit.
      if (this.#ending !== null) await this.#gone.promise;
      const why = this.#ending === null ? messageOf(error) : `ended: ${this.#ending}`;
      throw new HostError("CELL_LOST", `cell ${this.id} ${why}`, { cause: error });
    }
    this.lastPongMs = performance.now();
    if (!reply.ok) throw fromWireError(reply.error);
    return reply.value;
  }

  #notStarted(): NotStarted {
    return new NotStarted("CELL_LOST", `cell ${this.id} passed on the request before starting it`);
  }

  #lostError(reason: TerminationReason): HostError {
    return new HostError("CELL_LOST", `cell ${this.id} ended: ${reason}`);
  }

  #receive(message: CellMessage): void {
    switch (message.kind) {
      case "replies":
        // Answers prove that the loop is responsive, even if it has not processed its pings yet.
        this.lastPongMs = performance.now();
        this.#charge(message.busy);
        return;
      case "parked":
        this.#charge(message.busy);
        this.#queue.park(message.upTo);
        return;
      case "pong":
        this.lastPongMs = performance.now();
        this.connections = message.connections;
        this.readOnly = message.readOnly;
        this.#options.observe({ kind: "guard.checked", count: message.guardChecks });
        this.#options.observe({ kind: "connections.renewed", counts: message.renewals });
        return;
      case "collected":
        this.heap.collected(message);
        return;
      case "log":
        this.#options.observe({ ...message, kind: "cell.log", cell: this.id });
        return;
      default:
        unreachable(message);
    }
  }

  #charge(busy: BusyTimes): void {
    for (let at = 0; at + 1 < busy.length; at += 2) {
      this.#queue.charge(String(busy[at]), Number(busy[at + 1]));
    }
  }

  /** Fails the chosen waiting requests, which are already out of the queue. */
  #turnAway(chosen: (turn: CellTurn) => boolean): void {
    for (const [slot, turn] of [...this.#queued]) {
      if (!chosen(turn)) continue;
      this.#queued.delete(slot);
      turn.reject(this.#notStarted());
    }
  }

  #lost(error: Error): void {
    this.#report(error);
    // V8's own limit was reached before the governor acted.
    const outOfMemory = codeOf(error) === "ERR_WORKER_OUT_OF_MEMORY";
    void this.terminate(outOfMemory ? "over-budget" : this.#deathReason());
  }

  /** The reason for an end that nobody requested. */
  #deathReason(): TerminationReason {
    return this.#phase === "starting" ? "start-failed" : "crashed";
  }

  #exited(): void {
    if (this.#ending === null) {
      this.#ending = this.#deathReason();
      void this.#thread.end().catch((error: Error) => this.#report(error));
    }
    this.phase = "gone";
    const lost = this.#lostError(this.#ending);
    // Drain first: requests that leave while others fail would otherwise start the next ones on a dead
    // thread.
    this.#queue.drain();
    this.#turnAway(() => true);
    this.#channel.end(lost);
    this.#gone.resolve();
    this.#options.onGone(this, this.#ending);
  }

  #report(thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(messageOf(thrown));
    this.#options.observe({ kind: "cell.error", cell: this.id, error });
  }
}
