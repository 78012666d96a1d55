/** Sends log lines of the thread, of plugins and of libraries to the front. */
import { format } from "node:util";
import { divert, divertWarnings } from "../src/shared/kernel/divert.ts";
import { messageOf } from "../src/shared/kernel/errors.ts";
import { excerpt } from "../src/shared/kernel/excerpt.ts";
import type { TenantId } from "../src/shared/kernel/ids.ts";
import { RateLimit } from "../src/shared/kernel/rate-limit.ts";
import type { CellMessage } from "../src/shared/protocol/messages.ts";
import type { Log } from "./request/error-mask.ts";

type Report = Omit<Extract<CellMessage, { kind: "log" }>, "kind">;

/** The log itself has a lower limit; this one protects the front from reading all that a loop here writes. */
const rate = { burst: 100, perSecond: 10, maxKeys: 1_000 } as const;

export interface ReportsOptions {
  readonly send: (report: Report) => void;
  /** The tenant whose request is running. */
  readonly tenant: () => TenantId | undefined;
}

export class Reports {
  readonly #options: ReportsOptions;
  readonly #limit = new RateLimit(rate);

  constructor(options: ReportsOptions) {
    this.#options = options;
  }

  /** Sends an excerpt, so that messages of megabytes do not travel. */
  readonly log: Log = (level, message) => {
    const tenant = this.#options.tenant();
    const leftOut = this.#limit.admit(`${level} ${tenant ?? ""}`);
    if (leftOut === undefined) return;
    this.#options.send({
      level,
      message: excerpt(message),
      ...(tenant === undefined ? {} : { tenant }),
      ...(leftOut === 0 ? {} : { leftOut }),
    });
  };

  /** Reports how many lines were dropped and not yet accounted for. */
  tellLeftOut(): void {
    const { byKey, other } = this.#limit.takeLeftOut();
    const leftOut = byKey.reduce((sum, [, count]) => sum + count, other);
    if (leftOut > 0) this.#options.send({ level: "warn", message: "log lines were dropped", leftOut });
  }

  /**
   * Routes the output and warnings of libraries and plugins into the log, where credentials are removed. Logs unhandled
   * rejections, too: a promise that one plugin dropped is no reason to end every tenant's requests here.
   */
  takeOutput(): void {
    const complain = (...words: unknown[]): void => this.log("warn", format(...words));
    Object.assign(console, { error: complain, warn: complain, dir: complain, trace: complain });
    divert(process.stdout, (text) => this.log("info", text.trimEnd()));
    divert(process.stderr, (text) => this.log("warn", text.trimEnd()));
    divertWarnings((text) => this.log("warn", text));
    process.on("unhandledRejection", (reason) =>
      this.log("error", `unhandled rejection: ${messageOf(reason)}`),
    );
  }
}
