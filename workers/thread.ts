/** One cell's thread: its instances, its requests in flight, and its answers to the front. */
import { format } from "node:util";
import type { MessagePort } from "node:worker_threads";
import { move, transferableSymbol, valueSymbol } from "piscina";
import { HostError, messageOf, unreachable } from "../src/kernel/errors.ts";
import type {
  Answer,
  BuildReport,
  CellMessage,
  CellSetup,
  CellTask,
  ControlMessage,
  Reply,
  RequestTask,
} from "../src/protocol/messages.ts";
import { toWireError } from "../src/protocol/wire-error.ts";
import { Bindings } from "./bindings.ts";
import { collectGarbage } from "./garbage.ts";
import { buildError, Instances } from "./instances.ts";
import type { Log } from "./mask.ts";
import { RequestScope } from "./scope.ts";

export class CellThread {
  readonly #ledger: Int8Array;
  readonly #running = new Map<number, RequestScope>();
  readonly #instances: Instances;
  readonly #bindings = new Bindings();
  #control: MessagePort | null = null;

  constructor(setup: CellSetup) {
    this.#ledger = new Int8Array(setup.ledger);
    const log: Log = (level, message) => this.#tell({ kind: "log", level, message });
    this.#instances = new Instances(setup, log);
    // What libraries and plugins complain of goes where everything else does, without credentials, instead of past the log.
    const complain = (...words: unknown[]): void => log("warn", format(...words));
    Object.assign(console, { error: complain, warn: complain, dir: complain, trace: complain });
    // A promise that a plugin dropped is that plugin's fault alone, and no reason to end every tenant's requests here.
    process.on("unhandledRejection", (reason) => log("error", `unhandled rejection: ${messageOf(reason)}`));
  }

  /** Never rejects: a rejection would be taken for a crash. */
  async handle(task: CellTask): Promise<unknown> {
    switch (task.kind) {
      case "open":
        this.#control = task.port;
        task.port.on("message", (message: ControlMessage) => this.#obey(message));
        return { ok: true, value: null };
      case "build":
        return settle<BuildReport>(
          this.#instances
            .build(task.instance, task.spec)
            .catch((error) => Promise.reject(buildError(error, task.spec))),
        );
      case "release":
        return settle<null>(this.#instances.release(task.instance).then(() => null));
      case "request":
        return this.#request(task);
      case "cancel":
        this.#running.get(task.slot)?.cancel();
        return { ok: true, value: null };
      default:
        return unreachable(task);
    }
  }

  async #request(task: RequestTask): Promise<unknown> {
    const binding = this.#bindings.read(task.binding);
    const scope = new RequestScope({ ...task, binding, ledger: this.#ledger });
    this.#running.set(task.slot, scope);
    const finish = (): void => {
      scope.close();
      // The host frees the place of a body that it gives up at once: the next request may be in it by now.
      if (this.#running.get(task.slot) === scope) this.#running.delete(task.slot);
    };
    try {
      const serv = this.#instances.get(task.instance);
      if (serv === undefined) throw new HostError("CELL_LOST", "the instance is not in this cell");
      const { answer, transfer, sent } = await serv.serve(task, scope);
      // A stream goes on reading as its request; the front frees the slot when the body has ended.
      if (answer.kind === "stream") void sent.then(finish);
      else finish();
      const reply: Reply<Answer> = { ok: true, value: answer };
      if (transfer.length === 0) return reply;
      return move({ [transferableSymbol]: transfer, [valueSymbol]: reply });
    } catch (error) {
      finish();
      return failed(error);
    }
  }

  #obey(message: ControlMessage): void {
    switch (message.kind) {
      case "ping":
        this.#tell({ ...this.#instances.takeFigures(), kind: "pong" });
        return;
      case "collect":
        this.#tell({ kind: "collected", sequence: message.sequence, heapUsedBytes: collectGarbage() });
        return;
      default:
        unreachable(message);
    }
  }

  #tell(message: CellMessage): void {
    this.#control?.postMessage(message);
  }
}

async function settle<Value>(work: Promise<Value>): Promise<Reply<Value>> {
  try {
    return { ok: true, value: await work };
  } catch (error) {
    return failed(error);
  }
}

function failed(error: unknown): { readonly ok: false; readonly error: ReturnType<typeof toWireError> } {
  return {
    ok: false,
    error: toWireError(
      error instanceof HostError ? error : new HostError("INTERNAL", messageOf(error), { cause: error }),
    ),
  };
}
