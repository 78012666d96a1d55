/** One cell's thread: its instances, its requests in flight, and its answers to the front. */
import type { MessagePort } from "node:worker_threads";
import { HostError, messageOf, unreachable } from "../src/shared/kernel/errors.ts";
import { IdleGc } from "../src/shared/memory/idle-gc.ts";
import { decodeTasks } from "../src/shared/protocol/codec.ts";
import type {
  BuildReport,
  CellMessage,
  CellSetup,
  CellTask,
  ControlMessage,
  LaneTask,
  Reply,
  RequestTask,
} from "../src/shared/protocol/messages.ts";
import { toWireError } from "../src/shared/protocol/wire-error.ts";
import { Bindings } from "./binding-cache.ts";
import { CpuMeter } from "./cpu-meter.ts";
import type { Patching } from "./graphile/patching.ts";
import { InTurn } from "./in-turn.ts";
import { buildError, Instances } from "./instance/instances.ts";
import { Parking } from "./parking.ts";
import { type Outgoing, ReplyBatcher, type Transfer } from "./reply-batcher.ts";
import { Reports } from "./reports.ts";
import { RequestScope } from "./request/request-scope.ts";

export class CellThread {
  readonly #ledger: Int8Array;
  readonly #identifying: readonly string[];
  /** Scopes by slot. */
  readonly #running: (RequestScope | undefined)[] = [];
  readonly #instances: Instances;
  readonly #reports: Reports;
  readonly #bindings = new Bindings();
  readonly #meter = new CpuMeter(() => this.#parking.parkAll());
  readonly #replyBatcher = new ReplyBatcher(
    (message, transfer) => this.#tell(message, transfer),
    () => this.#meter.take(),
  );
  readonly #parking = new Parking((upTo) => {
    this.#tell({ kind: "parked", upTo, busy: this.#meter.take() });
  });
  readonly #tasks = new InTurn<LaneTask>({
    run: (task) => void this.#take(task),
    isLight: (task) => task.kind === "cancel" || task.together,
    share: (begin) => this.#meter.share(begin),
  });
  #control: MessagePort | null = null;
  readonly #reserve = new IdleGc();
  #building = 0;
  /** The number of builds and requests so far. */
  #done = 0;

  constructor(setup: CellSetup, patching: Patching) {
    this.#ledger = new Int8Array(setup.ledger);
    this.#identifying = setup.requestHeaders;
    this.#reports = new Reports({
      send: (report) => this.#tell({ ...report, kind: "log" }),
      tenant: () => this.#instances.tenant,
    });
    this.#instances = new Instances(setup, this.#reports.log, patching, (tenant) =>
      this.#meter.enter(tenant),
    );
    this.#reports.takeOutput();
  }

  /** Never rejects, because a rejection would be taken for a crash. */
  async handle(task: CellTask): Promise<Reply<unknown>> {
    switch (task.kind) {
      case "open":
        this.#control = task.port;
        this.#done += 1;
        task.port.on("message", (message: ControlMessage) => this.#obey(message));
        // After the front has its answer: this is the baseline that the first build is measured against.
        setImmediate(() => this.#instances.growth.settle());
        return { ok: true, value: null };
      case "build":
        this.#building += 1;
        return settle<BuildReport>(
          this.#instances
            .build(task.instance, task.spec)
            .catch((error) => Promise.reject(buildError(error, task.spec)))
            .finally(() => {
              this.#building -= 1;
              this.#done += 1;
            }),
        );
      case "release":
        return settle<null>(this.#instances.release(task.instance).then(() => null));
      default:
        return unreachable(task);
    }
  }

  get #rests(): boolean {
    return this.#building === 0 && !this.#running.some((scope) => scope !== undefined);
  }

  /** Never rejects: otherwise there would be no reply, and the request's slot in the front would never be free. */
  async #request(task: RequestTask): Promise<Outgoing> {
    let finish = (): void => undefined;
    this.#done += 1;
    try {
      const binding = this.#bindings.read(task.binding);
      this.#meter.enter(binding.tenant);
      const scope = new RequestScope({
        ...task,
        binding,
        ledger: this.#ledger,
        identifying: this.#identifying,
      });
      this.#running[task.slot]?.releaseSlot();
      this.#running[task.slot] = scope;
      finish = () => {
        scope.close();
        // The host frees the slot of an abandoned body at once, so the next request may already be in it.
        if (this.#running[task.slot] === scope) this.#running[task.slot] = undefined;
      };
      const serv = this.#instances.get(task.instance);
      if (serv === undefined) throw new HostError("CELL_LOST", "the instance is not in this cell");
      const { answer, transfer, sent } = await serv.serve(task, scope);
      // A stream goes on reading as its request; the front frees the slot when the body has ended.
      if (answer.kind === "stream") void sent.then(finish);
      else finish();
      return { reply: { ok: true, value: answer }, transfer };
    } catch (error) {
      finish();
      return { reply: failed(error), transfer: [] };
    }
  }

  async #take(task: LaneTask): Promise<void> {
    if (task.kind === "cancel") {
      this.#running[task.slot]?.cancel();
      return;
    }
    const { number } = task;
    this.#parking.started(number);
    const outgoing = await this.#request(task.task);
    this.#parking.ended(number);
    this.#replyBatcher.add(number, outgoing);
  }

  #obey(message: ControlMessage): void {
    switch (message.kind) {
      case "tasks":
        this.#tasks.add(decodeTasks(message.encoded));
        return;
      case "contended":
        this.#parking.contended = true;
        return;
      case "ping":
        this.#parking.contended = message.contended;
        this.#tell({ ...this.#instances.takeFigures(), kind: "pong" });
        this.#reports.tellLeftOut();
        if (this.#rests) this.#reserve.tick(this.#done);
        return;
      case "collect":
        this.#tell({ ...this.#instances.growth.measure(), kind: "collected", sequence: message.sequence });
        return;
      default:
        unreachable(message);
    }
  }

  #tell(message: CellMessage, transfer: Transfer = []): void {
    this.#control?.postMessage(message, transfer);
  }
}

async function settle<Value>(work: Promise<Value>): Promise<Reply<Value>> {
  try {
    return { ok: true, value: await work };
  } catch (error) {
    return failed(error);
  }
}

function failed(error: unknown): Reply<never> {
  const hosts =
    error instanceof HostError ? error : new HostError("INTERNAL", messageOf(error), { cause: error });
  return { ok: false, error: toWireError(hosts) };
}
